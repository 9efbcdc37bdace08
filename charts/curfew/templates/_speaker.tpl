{{- /*
Who speaks, as CEL variables. The stamping and the checking policy are rendered from this same text, so what the one writes is what the
other demands.

  verdict   must be defined before: Approve, Deny, Revoke or Review
  groups    those that can let the caller in. Never for a service account: all of them share groups such as system:authenticated, so they
            count only where an AccessPolicy names them.
  via       which entries of status let the caller say this verdict:
              for Approve  one for each open stage that names them: lead/User:bob, security/Group:sre
              for Review   one of status.reviewers; the stage is then written review
              otherwise    one of status.revokers, the approvers of whatever stage; the stage is then written *
              for Revoke   by the requester: requester
            Empty: nothing does. It reads oldObject alone, because the status in a client's PUT is whatever the client put there.
  direct    whether the caller presented a credential of their own. Under impersonation there is no credential id, unless somebody may
            impersonate that key of userextras too and makes one up.
*/}}
{{- define "curfew.speaker" -}}
- name: caller
  expression: request.userInfo.username
- name: uid
  expression: request.userInfo.?uid.orValue('')
- name: groups
  expression: >-
    variables.caller.startsWith('system:serviceaccount:') ? [] : request.userInfo.?groups.orValue([])
- name: direct
  expression: >-
    'authentication.kubernetes.io/credential-id' in request.userInfo.?extra.orValue({})
# Where somebody speaks who speaks in no stage.
- name: place
  expression: >-
    variables.verdict == 'Review' ? 'review' : '*'
- name: via
  expression: >-
    variables.verdict == 'Revoke' && variables.caller == oldObject.spec.?requester.?username.orValue('') ? ['requester'] :
    (variables.verdict == 'Approve' ? oldObject.?status.?open.orValue([]) :
    variables.verdict == 'Review' ? [oldObject.?status.?reviewers.orValue({})] : [oldObject.?status.?revokers.orValue({})])
    .map(door, variables.caller in door.?users.orValue([])
    ? [door.?stage.orValue(variables.place) + '/User:' + variables.caller]
    : door.?groups.orValue([]).filter(group, group in variables.groups).map(group, door.?stage.orValue(variables.place) + '/Group:' + group))
    .filter(entries, entries.size() > 0)
    .map(entries, entries[0])
{{- end }}
