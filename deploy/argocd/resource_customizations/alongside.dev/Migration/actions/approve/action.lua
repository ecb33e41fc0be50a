-- Approves the phase that waits, in the plan and the attempt that are shown, and nothing else.
if obj.status == nil or obj.status.hold == nil or obj.status.hold.reason ~= "Approval" then
  error("nothing waits for an approval")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["alongside.dev/approve"] = obj.status.binding
-- The API server sees Argo CD's server approve, and the operator's policies want that very name. Who pressed the button
-- stands in Argo CD's own Event. Where the server runs elsewhere or in another name, change it here.
obj.metadata.annotations["alongside.dev/approved-by"] = actionParams["approvedBy"] or
  "system:serviceaccount:argocd:argocd-server"
return obj
