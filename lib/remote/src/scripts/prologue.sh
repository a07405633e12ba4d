echo @etcd-tools-begin; echo @etcd-tools-begin >&2
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin; export PATH; umask 077
