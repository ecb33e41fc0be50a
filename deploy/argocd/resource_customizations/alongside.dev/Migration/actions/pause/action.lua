-- Holds every forward step of this plan and attempt until it is resumed; guards stay on.
if obj.status == nil or obj.status.plan == nil then
  error("no plan is under way yet")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["alongside.dev/pause"] = "*@" .. obj.status.plan.hash .. "/" .. obj.status.attempt
return obj
