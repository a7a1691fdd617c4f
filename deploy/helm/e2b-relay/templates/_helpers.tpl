{{/* Short enough for -admin-0 behind it, and for what Kubernetes puts behind a StatefulSet's name in a label. */}}
{{- define "e2b-relay.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $own .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{- define "e2b-relay.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "e2b-relay.labels" -}}
{{ include "e2b-relay.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "e2b-relay.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "e2b-relay.serviceAccount" -}}
{{- default (ternary (include "e2b-relay.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{- define "e2b-relay.adminService" -}}
{{ include "e2b-relay.fullname" . }}-admin
{{- end }}

{{/* The Secret that the chart makes: what `secrets` and `adminToken` take from no other. */}}
{{- define "e2b-relay.ownSecret" -}}
{{ include "e2b-relay.fullname" . }}-secrets
{{- end }}

{{- define "e2b-relay.makesWebhookSecret" -}}
{{- if not .Values.secrets.existingSecret }}yes{{ end -}}
{{- end }}

{{- define "e2b-relay.makesAdminToken" -}}
{{- if and .Values.adminToken.create (not .Values.adminToken.existingSecret) }}yes{{ end -}}
{{- end }}

{{- define "e2b-relay.secretsFolder" -}}
/run/secrets/e2b-relay
{{- end }}

{{- define "e2b-relay.tlsFolder" -}}
/run/secrets/e2b-relay-tls
{{- end }}

{{/* The configuration as the daemon reads it. What is in it is not a Helm template: its own stand in the same braces. */}}
{{- define "e2b-relay.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $server := default dict $config.server -}}
{{- $admin := default dict $config.admin -}}
{{- $store := default dict $config.store -}}
{{- if hasKey $server "listen" }}{{ fail "config.server.listen is the chart's, whose ports are 8080 and 9464: set listenAddress, or service.port" }}{{ end -}}
{{- if hasKey $server "tls" }}{{ fail "config.server.tls is the chart's: set tls.existingSecret" }}{{ end -}}
{{- if hasKey $admin "listen" }}{{ fail "config.admin.listen is the chart's, whose ports are 8080 and 9464: set listenAddress" }}{{ end -}}
{{- if or (hasKey $admin "token_file") (hasKey $admin "token") }}{{ fail "config.admin.token_file is the chart's: set adminToken" }}{{ end -}}
{{- if hasKey $store "path" }}{{ fail "config.store.path is the chart's: it is on the volume of persistence" }}{{ end -}}
{{- $_ := set $server "listen" (printf "%s:8080" .Values.listenAddress) -}}
{{- if .Values.tls.existingSecret -}}
{{- $folder := include "e2b-relay.tlsFolder" . -}}
{{- $_ := set $server "tls" (dict "cert_file" (printf "%s/tls.crt" $folder) "key_file" (printf "%s/tls.key" $folder)) -}}
{{- end -}}
{{- $_ := set $admin "listen" (printf "%s:9464" .Values.listenAddress) -}}
{{- if or .Values.adminToken.existingSecret .Values.adminToken.create -}}
{{- $_ := set $admin "token_file" (printf "%s/admin-token" (include "e2b-relay.secretsFolder" .)) -}}
{{- end -}}
{{- $name := include "e2b-relay.adminService" . -}}
{{- $names := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- $_ := set $admin "hosts" (concat $names (default list $admin.hosts) | uniq) -}}
{{- $_ := set $store "path" "/var/lib/e2b-relay/data" -}}
{{- $_ := set $config "server" $server -}}
{{- $_ := set $config "admin" $admin -}}
{{- $_ := set $config "store" $store -}}
{{- if not $config.sources -}}
{{- $file := printf "%s/webhook-secret" (include "e2b-relay.secretsFolder" .) -}}
{{- $_ := set $config "sources" (dict "e2b" (dict "webhook" (dict "secrets_file" $file))) -}}
{{- end -}}
{{- if not $config.sinks -}}
{{- $_ := set $config "sinks" (dict "console" (dict "type" "stdout")) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* Where deliveries arrive, each path once. */}}
{{- define "e2b-relay.paths" -}}
{{- $paths := list -}}
{{- range (include "e2b-relay.config" . | fromYaml).sources -}}
{{- if hasKey . "webhook" -}}
{{- $paths = append $paths (default "/webhooks/e2b" (default dict .webhook).path) -}}
{{- end -}}
{{- end -}}
{{- if not $paths }}{{ fail "ingress.enabled, and no source in config.sources has a webhook: there is nothing to route" }}{{ end -}}
{{- $paths | uniq | sortAlpha | toJson -}}
{{- end }}
