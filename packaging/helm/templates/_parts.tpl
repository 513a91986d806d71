{{/* Labels of every object of the release. */}}
{{- define "cxi-operator.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* How pods name an image: by digest if there is one. Takes image and root. */}}
{{- define "cxi-operator.image" -}}
{{- $registry := default .image.registry .root.Values.registry -}}
{{- $repository := .image.repository -}}
{{- if $registry }}{{- $repository = printf "%s/%s" $registry .image.repository }}{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end }}

{{/* Not empty where operands need rights of OpenShift. */}}
{{- define "cxi-operator.openshift" -}}
{{- if eq (toString .Values.openshift) "auto" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}yes{{- end -}}
{{- else if .Values.openshift -}}yes{{- end -}}
{{- end }}

{{/* Not empty where Kernel Module Management is installed. */}}
{{- define "cxi-operator.kmm" -}}
{{- if .Capabilities.APIVersions.Has "kmm.sigs.x-k8s.io/v1beta1" -}}yes{{- end -}}
{{- end }}
