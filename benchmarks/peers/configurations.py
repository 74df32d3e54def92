"""How nginx and haproxy are set up, to be filled in with ``str.format``."""

#: Each request asks for the document first, by HEAD: after a GET, whose body it does not want, nginx closes the
#: connection. That location repeats all fields, since one that sets any inherits none. Clients may pause.
NGINX = """
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 32768;
pid {place}/pid;
error_log {place}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log {place}/access.log;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    send_timeout 3600s;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    upstream couchdb {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    proxy_http_version 1.1;
    proxy_read_timeout 3600s;
    proxy_set_header Connection "";
    proxy_set_header Authorization "{authorization}";
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /_document {{
            internal;
            proxy_pass http://couchdb/$database/$document;
            proxy_method HEAD;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Range "";
            proxy_set_header Connection "";
            proxy_set_header Authorization "{authorization}";
        }}
        location ~ ^/(?<database>[^/_][^/]*)/(?<document>[^/_][^/]*)/(?<attachment>.+)$ {{
            auth_request /_document;
            proxy_pass http://couchdb/$database/$document/$attachment;
            proxy_buffering off;
            proxy_buffer_size 64k;
            proxy_buffers 4 64k;
            proxy_busy_buffers_size 64k;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    tune.pipesize 1048576
    maxconn 6000
defaults
    mode http
    log stdout format raw local0
    option httplog
    option splice-response
    option http-keep-alive
    http-reuse always
    timeout connect 10s
    timeout client 3600s
    timeout server 3600s
    timeout http-keep-alive 3600s
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    default_backend couchdb
backend couchdb
    {authorization}
    server node {upstream}
"""
