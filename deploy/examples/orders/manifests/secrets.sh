#!/bin/sh
# Prints the Secrets of both stores and of PgBouncer, with a password made now. Once for a namespace:
#   sh secrets.sh | kubectl create -f -
# NAMESPACE is where the databases are (orders).
set -eu
namespace=${NAMESPACE:-orders}
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
for store in blue green; do
  cat <<YAML
apiVersion: v1
kind: Secret
metadata: {name: orders-$store, namespace: $namespace}
stringData:
  password: $password
  uri: postgres://orders:$password@orders-$store.$namespace.svc:5432/orders
---
YAML
done
cat <<YAML
apiVersion: v1
kind: Secret
metadata: {name: pgbouncer-admin, namespace: $namespace}
stringData:
  uri: postgres://orders:$password@pgbouncer.$namespace.svc:6432/pgbouncer
  users.txt: |
    "orders" "$password"
YAML
