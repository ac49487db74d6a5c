{{/* What the schema cannot say: everything that is wrong at once, and what to do about it. */}}

{{- define "slackwater.refuse" -}}
{{- $problems := list -}}
{{- range list "installation" "drain" "limits" "ways" "environment" -}}
{{- $found := include (printf "slackwater.refusals.%s" .) $ | trim -}}
{{- if $found }}{{ $problems = append $problems $found }}{{ end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n%s\n" (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}

{{- define "slackwater.refusals.installation" -}}
{{- $full := include "slackwater.fullname" . -}}
{{- if not .Values.image.repository }}
* image.repository is empty, and nobody publishes an image. In a checkout of Slackwater, build and push one:

    docker build --tag REGISTRY/slackwater:{{ .Chart.AppVersion }} .
    docker push REGISTRY/slackwater:{{ .Chart.AppVersion }}

  then add --set image.repository=REGISTRY/slackwater
{{ end }}
{{- if and .Values.existingSecret .Values.secret.generate }}
* existingSecret and secret.generate are both set: keep one of them.
{{ else if not (or .Values.existingSecret .Values.secret.generate) }}
* existingSecret is empty, and no secret is taken as a value. Make a Secret:

    kubectl create secret generic {{ $full }}-keys --namespace {{ .Release.Namespace }} --from-literal=API_KEY="$(openssl rand -hex 32)" --from-literal=ADMIN_KEY="$(openssl rand -hex 32)" --from-literal=TOKEN_HMAC_SECRET="$(openssl rand -hex 32)"

  then add --set existingSecret={{ $full }}-keys
  For a trial, --set secret.generate=true makes one up.
{{ end }}
{{- if and .Values.database.directKey (not .Values.database.existingSecret) }}
* database.directKey is set, and database.existingSecret is empty: name the Secret that holds both addresses.
{{ end }}
{{- if and .Values.persistence.existingClaim (not .Values.persistence.enabled) }}
* persistence.existingClaim is set, and persistence.enabled is off: switch it on, or leave the claim out.
{{ end }}
{{- with .Values.resources }}
{{- if gt (include "slackwater.bytes" .requests.memory | int64) (include "slackwater.bytes" .limits.memory | int64) }}
* resources.requests.memory is {{ .requests.memory }}, more than resources.limits.memory, which is {{ .limits.memory }}.
{{ end }}
{{- end }}
{{- $history := include "slackwater.bytes" .Values.settings.historyMaxMemory | int64 }}
{{- if or (lt $history 1048576) (ge $history (include "slackwater.bytes" .Values.resources.limits.memory | int64)) }}
* settings.historyMaxMemory is {{ .Values.settings.historyMaxMemory }}; it may be 1Mi to less than resources.limits.memory, which is {{ .Values.resources.limits.memory }}.
{{ end }}
{{- range $role := list "check" "attest" "rollout" "guard" }}
{{- range index $.Values.rbac $role }}
{{- if and (eq .kind "ServiceAccount") (not .namespace) }}
* rbac.{{ $role }}: the ServiceAccount {{ .name }} has no namespace.
{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "slackwater.refusals.drain" -}}
{{- $budget := include "slackwater.milliseconds" .Values.drain.budget | int64 -}}
{{- $planned := add (include "slackwater.milliseconds" .Values.drain.grace | int64) (include "slackwater.spreadMilliseconds" . | int64) -}}
{{- if le $budget $planned }}
* drain.budget is {{ .Values.drain.budget }}, not more than drain.grace and drain.spread together ({{ divf $planned 1000.0 }} s), so the spread would be cut short.
{{ end }}
{{- $least := add 5 (include "slackwater.wholeSeconds" .Values.drain.budget | int64) -}}
{{- if lt (include "slackwater.gracePeriod" . | int64) $least }}
* drain.terminationGracePeriod is {{ .Values.drain.terminationGracePeriod }}, so the pod could be killed while it drains: at least {{ $least }}s, 5 s more than drain.budget.
{{ end }}
{{- end -}}

{{- define "slackwater.refusals.limits" -}}
{{- with .Values.settings }}
{{- if ge (int64 .recoveryMaxBytes) (int64 .sendBufferBytes) }}
* settings.recoveryMaxBytes is {{ int64 .recoveryMaxBytes }}, not less than settings.sendBufferBytes ({{ int64 .sendBufferBytes }}): a client would be closed for the size of its own recovery.
{{ end }}
{{- range list (list "lockServe" "lockProve") (list "lockWait" "lockServe") (list "lockSession" "lockProve") }}
{{- $longer := index $.Values.settings (first .) }}
{{- $shorter := index $.Values.settings (last .) }}
{{- if le (include "slackwater.milliseconds" $longer | int64) (include "slackwater.milliseconds" $shorter | int64) }}
* settings.{{ first . }} is {{ $longer }}, not more than settings.{{ last . }} ({{ $shorter }}): two pods could serve at once, or none.
{{ end }}
{{- end }}
{{- if ge (include "slackwater.pongMilliseconds" $ | int64) (include "slackwater.milliseconds" .pingInterval | int64) }}
* settings.pongTimeout is {{ .pongTimeout }}, not less than settings.pingInterval ({{ .pingInterval }}): a pong has to be due before the next ping.
{{ end }}
{{- if lt (int64 .maxFrameBytes) (int64 .maxMessageBytes) }}
* settings.maxFrameBytes is {{ int64 .maxFrameBytes }}, less than settings.maxMessageBytes ({{ int64 .maxMessageBytes }}): a frame holds whole messages.
{{ end }}
{{- if lt (int64 .sendBufferBytes) (int64 .maxFrameBytes) }}
* settings.sendBufferBytes is {{ int64 .sendBufferBytes }}, less than settings.maxFrameBytes ({{ int64 .maxFrameBytes }}): what one client may send another has to fit.
{{ end }}
{{- range .allowedOrigins }}
{{- if contains "*" . }}
* settings.allowedOrigins holds {{ . }}: there is no wildcard; name every origin, such as https://app.example.org
{{ end }}
{{- end }}
{{- end }}
{{- $bounds := list
  (list "settings.pingInterval" .Values.settings.pingInterval 100 86400000 "100ms to 24h")
  (list "settings.pongTimeout" .Values.settings.pongTimeout 1 86400000 "1ms to 24h")
  (list "settings.idleTimeout" .Values.settings.idleTimeout 0 31536000000 "0s to 365d")
  (list "settings.connectTimeout" .Values.settings.connectTimeout 1 86400000 "1ms to 24h")
  (list "settings.requestHeadTimeout" .Values.settings.requestHeadTimeout 1 86400000 "1ms to 24h")
  (list "settings.adminTtl" .Values.settings.adminTtl 1000 86400000 "1s to 24h")
  (list "settings.idempotency" .Values.settings.idempotency 1000 86400000 "1s to 24h")
  (list "settings.tokenMax" .Values.settings.tokenMax 1000 31536000000 "1s to 365d")
  (list "settings.databasePoolTimeout" .Values.settings.databasePoolTimeout 1 3600000 "1ms to 1h")
  (list "settings.databaseConnectTimeout" .Values.settings.databaseConnectTimeout 1 3600000 "1ms to 1h")
  (list "settings.databaseStatementTimeout" .Values.settings.databaseStatementTimeout 1 3600000 "1ms to 1h")
  (list "settings.lockProve" .Values.settings.lockProve 10 3600000 "10ms to 1h")
  (list "settings.lockServe" .Values.settings.lockServe 10 3600000 "10ms to 1h")
  (list "settings.lockSession" .Values.settings.lockSession 10 3600000 "10ms to 1h")
  (list "settings.lockWait" .Values.settings.lockWait 10 3600000 "10ms to 1h")
  (list "settings.outboxPoll" .Values.settings.outboxPoll 10 3600000 "10ms to 1h")
  (list "settings.outboxKeep" .Values.settings.outboxKeep 0 31536000000 "0s to 365d")
  (list "drain.grace" .Values.drain.grace 0 3600000 "0s to 1h")
  (list "drain.spread" .Values.drain.spread 0 3600000 "0s to 1h")
  (list "drain.budget" .Values.drain.budget 1 3600000 "1ms to 1h")
}}
{{- range $bounds }}
{{- $value := include "slackwater.milliseconds" (index . 1) | int64 }}
{{- if and (index . 1) (or (lt $value (index . 2 | int64)) (gt $value (index . 3 | int64))) }}
* {{ index . 0 }} is {{ index . 1 }}; it may be {{ index . 4 }}.
{{ end }}
{{- end }}
{{- $seen := dict }}
{{- range .Values.namespaces }}
{{- if hasKey $seen .name }}
* namespaces: {{ quote .name }} is defined twice.
{{ end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end -}}

{{- define "slackwater.refusals.ways" -}}
{{- with .Values.ingress }}
{{- if and .enabled (not .host) }}
* ingress.host is empty: name the host, such as realtime.example.org
{{ end }}
{{- $quiet := add (include "slackwater.milliseconds" $.Values.settings.pingInterval | int64) (include "slackwater.pongMilliseconds" $ | int64) }}
{{- if and .enabled (le (include "slackwater.milliseconds" .readTimeout | int64) $quiet) }}
* ingress.readTimeout is {{ .readTimeout }}, and a quiet WebSocket says nothing for {{ divf $quiet 1000.0 }} s (settings.pingInterval and settings.pongTimeout together): the proxy would cut it.
{{ end }}
{{- end }}
{{- with .Values.httpRoute }}
{{- if and (ne (toString .enabled) "false") (not .parentRefs) }}
* httpRoute.parentRefs is empty: name the Gateway, such as --set httpRoute.parentRefs[0].name=public
{{ end }}
{{- end }}
{{- end -}}

{{- define "slackwater.refusals.environment" -}}
{{- $owned := concat (include "slackwater.settings" . | fromJson | keys) (include "slackwater.secretSettings" . | splitList " ") }}
{{- $unset := list "DRAIN_SPREAD_SECONDS" "FRONTEND_URL" "IMAGE_DIGEST" "NAMESPACES_FILE" "RECOVERY_MAX_BYTES" "REPL_URL" "TOKEN_AUDIENCE" "TOKEN_ISSUER" "TRUSTED_PROXIES" "WS_ALLOWED_ORIGINS" "WS_PONG_TIMEOUT" }}
{{- range .Values.extraEnv }}
{{- if has .name (concat $owned $unset) }}
* extraEnv holds {{ .name }}, which the chart sets itself: use the value that docs/reference/chart-values.md names for it.
{{ end }}
{{- end }}
{{- end -}}
