module alongside.dev/tests/cluster/ociimage

go 1.26
