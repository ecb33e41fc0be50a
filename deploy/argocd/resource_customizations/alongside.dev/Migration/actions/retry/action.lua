-- After a rollback, begins another attempt; after a step that failed for good, tries that step again.
local status = obj.status
if status == nil or status.plan == nil then
  error("no plan is under way yet")
end
local value = "*@" .. status.plan.hash .. "/" .. status.attempt

-- A step that fails again can be tried again only by a value that names its try, and the operator's own advice is the one
-- place that says which. There are no string functions here, so the command is built for each try and compared.
local command = "kubectl -n " .. obj.metadata.namespace .. " annotate --overwrite migration " .. obj.metadata.name ..
  " alongside.dev/retry='" .. value
local try = ""
for _, phase in ipairs(status.phases or {}) do
  for _, tries in ipairs({phase.tries or 0, phase.undoTries or 0, phase.preflightTries or 0, phase.cleanupTries or 0}) do
    if status.next == command .. "/" .. tries .. "'" then
      try = "/" .. tries
    end
  end
end

if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["alongside.dev/retry"] = value .. try
return obj
