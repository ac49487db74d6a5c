{{/* Names, labels, units. */}}

{{- define "slackwater.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/* At most 52 characters, so that every suffix fits, and without dots, so that names can be joined by them. */}}
{{- define "slackwater.fullname" -}}
{{- $name := include "slackwater.name" . -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $full := .Values.fullnameOverride | default (contains $name $release | ternary $release (printf "%s-%s" $release $name)) -}}
{{- $full | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "slackwater.selector" -}}
app.kubernetes.io/name: {{ include "slackwater.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "slackwater.podSelector" -}}
{{ include "slackwater.selector" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "slackwater.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "slackwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "slackwater.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slackwater.secretName" -}}
{{- .Values.existingSecret | default (printf "%s-keys" (include "slackwater.fullname" .)) -}}
{{- end -}}

{{- define "slackwater.adminService" -}}
{{- include "slackwater.fullname" . }}-admin
{{- end -}}

{{- define "slackwater.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "slackwater.fullname" .) "default") -}}
{{- end -}}

{{- define "slackwater.claim" -}}
{{- .Values.persistence.existingClaim | default (printf "%s-data" (include "slackwater.fullname" .)) -}}
{{- end -}}

{{/* Cluster-scoped objects: neither a namespace nor a name of ours holds a dot, so two releases cannot meet. */}}
{{- define "slackwater.clusterName" -}}
{{- printf "%s.%s" .Release.Namespace (include "slackwater.fullname" .) -}}
{{- end -}}

{{/* Whether to make an object: list of true, false or "auto"; its API; the root. Empty is no. */}}
{{- define "slackwater.wanted" -}}
{{- $value := toString (index . 0) -}}
{{- $there := (index . 2).Capabilities.APIVersions.Has (index . 1) -}}
{{- if or (eq $value "true") (and (eq $value "auto") $there) -}}yes{{- end -}}
{{- end -}}

{{- define "slackwater.milliseconds" -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9]+(?:\\.[0-9]+)?(?:ms|s|m|h|d)" . -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $factor := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) $unit -}}
{{- $total = addf $total (mulf (trimSuffix $unit . | float64) $factor) -}}
{{- end -}}
{{- printf "%.0f" $total -}}
{{- end -}}

{{- define "slackwater.seconds" -}}
{{- regexReplaceAll "\\.?0+$" (printf "%.3f" (divf (include "slackwater.milliseconds" . | float64) 1000.0)) "" -}}
{{- end -}}

{{/* Rounded up, for fields of Kubernetes that take whole seconds. */}}
{{- define "slackwater.wholeSeconds" -}}
{{- divf (include "slackwater.milliseconds" . | float64) 1000.0 | ceil | int64 -}}
{{- end -}}

{{- define "slackwater.bytes" -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $factor := get (dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824) $unit -}}
{{- printf "%.0f" (mulf (trimSuffix $unit . | float64) $factor) -}}
{{- end -}}

{{- define "slackwater.spreadMilliseconds" -}}
{{- if .Values.drain.spread -}}
{{- include "slackwater.milliseconds" .Values.drain.spread -}}
{{- else -}}
{{- min 10000 (int64 .Values.settings.maxConnections) -}}
{{- end -}}
{{- end -}}

{{- define "slackwater.pongMilliseconds" -}}
{{- with .Values.settings -}}
{{- if .pongTimeout -}}
{{- include "slackwater.milliseconds" .pongTimeout -}}
{{- else -}}
{{- min 10000 (divf (mulf (include "slackwater.milliseconds" .pingInterval | float64) 2.0) 3.0 | floor | int64) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slackwater.gracePeriod" -}}
{{- if .Values.drain.terminationGracePeriod -}}
{{- include "slackwater.wholeSeconds" .Values.drain.terminationGracePeriod -}}
{{- else -}}
{{- add 10 (include "slackwater.wholeSeconds" .Values.drain.budget | int64) -}}
{{- end -}}
{{- end -}}

{{/* For every container of the chart. */}}
{{- define "slackwater.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* For every pod of the chart. The user is the image's own. */}}
{{- define "slackwater.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}
