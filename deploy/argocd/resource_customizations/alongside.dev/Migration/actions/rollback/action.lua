-- Takes traffic and all else back, as long as there is a way back.
if obj.status == nil or obj.status.plan == nil then
  error("no plan is under way yet")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["alongside.dev/rollback"] = "*@" .. obj.status.plan.hash .. "/" .. obj.status.attempt
return obj
