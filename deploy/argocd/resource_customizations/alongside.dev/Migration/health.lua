-- The health of a Migration, from what its operator wrote into status.

-- What waits for a person, or for a guard to pass again: nothing goes on by itself.
local suspends = {Approval = true, Paused = true, PausedByGuard = true, PausedByBreach = true}

local status = obj.status
if status == nil or status.state == nil then
  return {status = "Progressing", message = "Waiting for the operator to see it"}
end
-- What status says is about an older spec: a sync that has just applied a new one must not take it for an answer.
if obj.metadata.generation ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waiting for the operator to see the new spec"}
end

local message = status.message or ""
if status.state == "Succeeded" then
  return {status = "Healthy", message = message}
end
if status.state == "Stalled" or status.state == "RolledBack" then
  return {status = "Degraded", message = message}
end
if status.progress ~= nil and status.progress ~= "" then
  message = status.progress .. " phases: " .. message
end
-- All that spec.until allows is done, or only its bake is left: a sync is not held open for that.
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" and condition.status == "True" then
    return {status = "Healthy", message = message}
  end
end
if status.state ~= "RollingBack" and status.hold ~= nil and suspends[status.hold.reason] then
  return {status = "Suspended", message = message}
end
return {status = "Progressing", message = message}
