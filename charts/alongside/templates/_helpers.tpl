{{/* The name of the release's resources: the release's own, with `alongside` in it. */}}
{{- define "alongside.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains "alongside" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-alongside" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which the operator's pods are found. They can't change in an upgrade. */}}
{{- define "alongside.selectorLabels" -}}
app.kubernetes.io/name: alongside
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "alongside.labels" -}}
{{ include "alongside.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "alongside.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "alongside.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "alongside.fullname" .) -}}
{{- else -}}
{{- required "write serviceAccount.name, the ServiceAccount to use, or serviceAccount.create: true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The operator as the API server calls it. */}}
{{- define "alongside.userName" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "alongside.serviceAccountName" . }}
{{- end -}}

{{- define "alongside.leaseName" -}}
{{ include "alongside.fullname" . }}
{{- end -}}

{{/* One key of a Secret or ConfigMap as a file of a provider: kind, provider, object, key, file. */}}
{{- define "alongside.projected" -}}
- {{ index . 0 }}:
    name: {{ index . 2 }}
    items: [{key: {{ index . 3 | quote }}, path: {{ printf "%s/%s" (index . 1) (index . 4) | quote }}}]
{{- end -}}

{{/* Restricts a policy's binding to the release's namespaces. */}}
{{- define "alongside.policyScope" -}}
{{- with .Values.namespaces }}
matchResources:
  namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end -}}
