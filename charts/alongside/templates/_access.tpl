{{/* Written by crdgen from src/api/access.rs; change that instead. */}}

{{- define "alongside.access.operator" -}}
# Follows what users ask for.
- apiGroups: [alongside.dev]
  resources: [migrations]
  verbs: [get, list, watch]
# Sets and lifts its finalizer, which is metadata; a policy of the chart refuses it any other change.
- apiGroups: [alongside.dev]
  resources: [migrations]
  verbs: [patch]
# Remembers and shows how far each Migration is.
- apiGroups: [alongside.dev]
  resources: [migrations/status]
  verbs: [update, patch]
# Owns plans and Jobs in a Migration's name, where the API server asks for this right (OpenShift does).
- apiGroups: [alongside.dev]
  resources: [migrations/finalizers]
  verbs: [update]
# Keeps each frozen plan until its Migration has settled.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, patch, delete]
# Reads scripts and hands Jobs their frozen copy.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch, delete]
# Runs scripts and users' Jobs, and takes their outcome.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Counts serving pods and reads how a Job's pod ended.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Drains a side by evicting its pods, within their disruption budget.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Moves traffic: one label of one selector.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, patch]
# Sees that traffic has moved.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
# Says what it did.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Sees that a namespace is being deleted, where no Job can be made any more.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# Says beforehand that a namespace has no room for a Job or its undo.
- apiGroups: [""]
  resources: [resourcequotas]
  verbs: [list]
{{- end }}

{{- define "alongside.access.operatorAtHome" -}}
# Makes the Lease; a right to create knows no names.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# Agrees with the other replicas who acts.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, watch, update, patch]
  resourceNames: [{{ include "alongside.leaseName" . | quote }}]
{{- end }}

{{- define "alongside.access.viewer" -}}
# Sees what is going on.
- apiGroups: [alongside.dev]
  resources: [migrations, migrations/status]
  verbs: [get, list, watch]
{{- end }}

{{- define "alongside.access.editor" -}}
# Begins, changes and deletes Migrations, and through them creates Jobs and moves Services.
- apiGroups: [alongside.dev]
  resources: [migrations]
  verbs: [create, update, patch, delete, deletecollection]
# Sets the annotations `pause`, `abort`, `rollback` and `retry`; deleting a Migration does no less.
- apiGroups: [alongside.dev]
  resources: [migrations]
  verbs: [abort]
{{- end }}

{{- define "alongside.access.approver" -}}
# Sees what is to be approved.
- apiGroups: [alongside.dev]
  resources: [migrations, migrations/status]
  verbs: [get, list, watch]
# Sets the annotations.
- apiGroups: [alongside.dev]
  resources: [migrations]
  verbs: [patch]
# Approves phases, and stops what it approved.
- apiGroups: [alongside.dev]
  resources: [migrations]
  verbs: [approve, abort]
{{- end }}
