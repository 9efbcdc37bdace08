{{- /*
What the metadata of a request may hold besides annotations, which the API server bounds by itself. A request that fills what an object may be would have no room
for a revocation, nor for what the operator says.
*/}}

{{- /* CEL: it is within bounds. */}}
{{- define "curfew.bounded" -}}
object.metadata.?labels.orValue({}).size() <= 64
&& object.metadata.?finalizers.orValue([]).size() <= 16
&& object.metadata.?ownerReferences.orValue([]).size() <= 16
&& object.metadata.?ownerReferences.orValue([]).all(owner, owner.apiVersion.size() + owner.kind.size() + owner.name.size() + owner.uid.size() <= 1024)
{{- end }}

{{- /* CEL: it is as it was. */}}
{{- define "curfew.asItWas" -}}
object.metadata.?labels.orValue({}) == oldObject.metadata.?labels.orValue({})
&& object.metadata.?finalizers.orValue([]) == oldObject.metadata.?finalizers.orValue([])
&& object.metadata.?ownerReferences.orValue([]) == oldObject.metadata.?ownerReferences.orValue([])
{{- end }}

{{- define "curfew.unbounded" -}}
a request can have at most 64 labels, 16 finalizers and 16 owners of 1024 characters: there must always be room to revoke it
{{- end }}
