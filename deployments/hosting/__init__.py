"""What a room needs around it: files for nginx, ufw, systemd and others out of templates, its size and its cost."""
