#!/bin/sh
# Prints the Secret inventory-db with a password made now. Once for a namespace:
#   sh secret.sh | kubectl create -f -
# A second time kubectl refuses, and rightly: Postgres keeps the first password.
set -eu
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
cat <<YAML
apiVersion: v1
kind: Secret
metadata:
  name: inventory-db
  namespace: shop
stringData:
  password: $password
  uri: postgres://inventory:$password@inventory-db.shop.svc:5432/inventory
YAML
