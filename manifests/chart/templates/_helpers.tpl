{{/* The suffix of what exists once a revision. */}}
{{- define "pilotfish.suffix" -}}
{{- if and .Values.revision (ne .Values.revision "default") }}-{{ .Values.revision }}{{ end }}
{{- end }}

{{- define "pilotfish.revision" -}}
{{- .Values.revision | default "default" }}
{{- end }}

{{- define "pilotfish.name" -}}
istiod{{ include "pilotfish.suffix" . }}
{{- end }}

{{- define "pilotfish.tag" -}}
{{- .Values.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "pilotfish.selector" -}}
app: istiod
istio.io/rev: {{ include "pilotfish.revision" . }}
{{- end }}

{{- define "pilotfish.labels" -}}
{{ include "pilotfish.selector" . }}
istio: pilot
app.kubernetes.io/name: pilotfish
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ include "pilotfish.tag" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Proxies, tools and certificates look for the Service istiod in istio-system. */}}
{{- define "pilotfish.namespace" -}}
{{- if ne .Release.Namespace "istio-system" }}{{ fail "pilotfish is installed in namespace istio-system: give --namespace istio-system" }}{{ end -}}
istio-system
{{- end }}
