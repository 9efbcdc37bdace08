{{- define "curfew.labels" -}}
{{ include "curfew.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "curfew.selector" -}}
app.kubernetes.io/name: curfew
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The operator's user name: the only thing that the admission policies take from outside. */}}
{{- define "curfew.operator" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Release.Name }}
{{- end }}

{{- /* A binding for the policy of the same name: it denies, everywhere, and has no exceptions. */}}
{{- define "curfew.deny" }}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels: {{- include "curfew.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}

{{- /* CEL: of a binding, nothing changes but that finalizers and owners become fewer. roleRef never changes; the API server sees to that. */}}
{{- define "curfew.onlyLetsGo" -}}
object.?subjects.orValue([]) == oldObject.?subjects.orValue([])
&& object.metadata.?labels.orValue({}) == oldObject.metadata.?labels.orValue({})
&& object.metadata.?annotations.orValue({}) == oldObject.metadata.?annotations.orValue({})
&& object.metadata.?finalizers.orValue([]).all(finalizer, finalizer in oldObject.metadata.?finalizers.orValue([]))
&& object.metadata.?ownerReferences.orValue([]).all(owner, owner in oldObject.metadata.?ownerReferences.orValue([]))
{{- end }}

{{- /* CEL: what is written bears this prefix in its name or this label, before or after this write. */}}
{{- define "curfew.bears" -}}
(object != null && (object.metadata.name.startsWith('{{ .prefix }}') || '{{ .label }}' in object.metadata.?labels.orValue({})))
|| (oldObject != null && (oldObject.metadata.name.startsWith('{{ .prefix }}') || '{{ .label }}' in oldObject.metadata.?labels.orValue({})))
{{- end }}

{{- /* CEL: what a deletion does with what is owned. Whether it is orphaned where nothing is said is what this is called with. */}}
{{- define "curfew.propagation" -}}
request.options.?propagationPolicy.orValue(
request.options.?orphanDependents.orValue({{ . }}) ? 'Orphan' : 'Background')
{{- end }}

{{- /* CEL: no deletion, or one that what is owned follows. */}}
{{- define "curfew.takesItsOwnAlong" -}}
request.operation != 'DELETE' || {{ include "curfew.propagation" . }} != 'Orphan'
{{- end }}
