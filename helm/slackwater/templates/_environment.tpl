{{/* The settings that the chart makes, as JSON: text by name. docs/reference/settings.md describes them. */}}
{{- define "slackwater.settings" -}}
{{- $env := dict
  "SLACKWATER_MODE" "production"
  "PORT" "3000"
  "ADMIN_PORT" "3001"
  "DATA_DIR" "/data"
  "WEB_CONCURRENCY" "1"
  "DATABASE_MIGRATE" "false"
  "HOST" .Values.settings.bindAddress
  "ADMIN_HOST" .Values.settings.bindAddress
  "DRAIN_GRACE_SECONDS" (include "slackwater.seconds" .Values.drain.grace)
  "DRAIN_BUDGET_SECONDS" (include "slackwater.seconds" .Values.drain.budget)
-}}
{{- if not (include "slackwater.durable" .) }}{{ $_ := set $env "DATABASE_URL" "memory:" }}{{ end -}}
{{- with .Values.drain.spread }}{{ $_ := set $env "DRAIN_SPREAD_SECONDS" (include "slackwater.seconds" .) }}{{ end -}}
{{- with .Values.image.digest }}{{ $_ := set $env "IMAGE_DIGEST" . }}{{ end -}}
{{- if .Values.namespaces }}{{ $_ := set $env "NAMESPACES_FILE" "/etc/slackwater/namespaces.json" }}{{ end -}}
{{- with .Values.settings -}}
{{- $text := dict
  "FRONTEND_URL" .frontendUrl
  "REPL_URL" .replUrl
  "WS_ALLOWED_ORIGINS" (join "," .allowedOrigins)
  "TRUSTED_PROXIES" (join "," .trustedProxies)
  "TOKEN_AUDIENCE" .tokenAudience
  "TOKEN_ISSUER" .tokenIssuer
  "WS_ANONYMOUS" (toString .anonymous)
  "PERSONAL_CHANNELS" (toString .personalChannels)
  "DEMO_PAGE" (toString .demoPage)
  "WS_UNAUTHENTICATED_SHARE" (toString .unauthenticatedShare)
  "HISTORY_MAX_BYTES" (include "slackwater.bytes" .historyMaxMemory)
  "ADMIN_TTL_SECONDS" (include "slackwater.seconds" .adminTtl)
  "IDEMPOTENCY_SECONDS" (include "slackwater.seconds" .idempotency)
  "TOKEN_MAX_SECONDS" (include "slackwater.seconds" .tokenMax)
  "DATABASE_POOL_TIMEOUT" (include "slackwater.seconds" .databasePoolTimeout)
  "DATABASE_CONNECT_TIMEOUT" (include "slackwater.seconds" .databaseConnectTimeout)
  "DATABASE_STATEMENT_TIMEOUT" (include "slackwater.seconds" .databaseStatementTimeout)
  "LOCK_PROVE_SECONDS" (include "slackwater.seconds" .lockProve)
  "LOCK_SERVE_SECONDS" (include "slackwater.seconds" .lockServe)
  "LOCK_SESSION_SECONDS" (include "slackwater.seconds" .lockSession)
  "LOCK_WAIT_SECONDS" (include "slackwater.seconds" .lockWait)
  "OUTBOX" (toString .outbox)
  "OUTBOX_POLL_SECONDS" (include "slackwater.seconds" .outboxPoll)
  "OUTBOX_KEEP_SECONDS" (include "slackwater.seconds" .outboxKeep)
  "LOG_LEVEL" .logLevel
  "LOG_FORMAT" .logFormat
-}}
{{- range $name, $value := $text }}{{ if $value }}{{ $_ := set $env $name $value }}{{ end }}{{ end -}}
{{- /* A number of a values file is a float, which would be written as 1.048576e+06. */ -}}
{{- $whole := dict
  "WS_MAX_CONNECTIONS" .maxConnections
  "WS_MAX_CONNECTIONS_PER_USER" .maxConnectionsPerUser
  "WS_MAX_CONNECTIONS_PER_ADDRESS" .maxConnectionsPerAddress
  "WS_MESSAGES_PER_MINUTE" .messagesPerMinute
  "WS_COMMANDS_PER_MINUTE" .commandsPerMinute
  "WS_REFUSALS_PER_MINUTE" .refusalsPerMinute
  "WS_MAX_MESSAGE_BYTES" .maxMessageBytes
  "WS_MAX_FRAME_BYTES" .maxFrameBytes
  "WS_MAX_COMMANDS_PER_FRAME" .maxCommandsPerFrame
  "WS_MAX_CHANNELS_PER_CLIENT" .maxChannelsPerClient
  "WS_MAX_CHANNEL_LENGTH" .maxChannelLength
  "WS_SEND_BUFFER_BYTES" .sendBufferBytes
  "HTTP_MAX_BODY_BYTES" .maxBodyBytes
  "API_MAX_BATCH_COMMANDS" .maxBatchCommands
  "API_MAX_BROADCAST_CHANNELS" .maxBroadcastChannels
  "DATABASE_POOL_SIZE" .databasePoolSize
  "DATABASE_POOL_OVERFLOW" .databasePoolOverflow
  "OUTBOX_MAX_TRIES" .outboxMaxTries
-}}
{{- range $name, $value := $whole }}{{ $_ := set $env $name ($value | int64 | toString) }}{{ end -}}
{{- with .recoveryMaxBytes }}{{ $_ := set $env "RECOVERY_MAX_BYTES" (. | int64 | toString) }}{{ end -}}
{{- $durations := dict
  "WS_PING_INTERVAL" .pingInterval
  "WS_PONG_TIMEOUT" .pongTimeout
  "WS_IDLE_TIMEOUT" .idleTimeout
  "WS_CONNECT_TIMEOUT" .connectTimeout
  "WS_REQUEST_HEAD_TIMEOUT" .requestHeadTimeout
-}}
{{- range $name, $value := $durations }}{{ if $value }}{{ $_ := set $env $name (include "slackwater.milliseconds" $value) }}{{ end }}{{ end -}}
{{- end -}}
{{- toJson $env -}}
{{- end -}}

{{/* Names that come from Secrets, and from the pod itself. */}}
{{- define "slackwater.secretSettings" -}}
API_KEY ADMIN_KEY TOKEN_HMAC_SECRET TOKEN_RSA_PUBLIC_KEY TOKEN_ECDSA_PUBLIC_KEY DATABASE_URL DATABASE_DIRECT_URL POD_UID
{{- end -}}

{{/* Whether anything outlives the pod: a Postgres, or a volume for SQLite. */}}
{{- define "slackwater.durable" -}}
{{- if or .Values.database.existingSecret .Values.persistence.enabled }}true{{ end -}}
{{- end -}}

{{/* The whole environment of the container, as a list. */}}
{{- define "slackwater.environment" -}}
{{- range $name, $value := include "slackwater.settings" . | fromJson }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- $secret := include "slackwater.secretName" . }}
{{- range list "API_KEY" "ADMIN_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- /* One of the three is enough; the service says so when there is none. */}}
{{- range list "TOKEN_HMAC_SECRET" "TOKEN_RSA_PUBLIC_KEY" "TOKEN_ECDSA_PUBLIC_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
      optional: true
{{- end }}
{{- with .Values.database.existingSecret }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.database.key }}
{{- with $.Values.database.directKey }}
- name: DATABASE_DIRECT_URL
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.database.existingSecret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- /* A container that is restarted in the same pod need not wait for its predecessor. */}}
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
