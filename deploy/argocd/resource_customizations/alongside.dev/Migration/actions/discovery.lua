-- Which actions can be taken on a Migration as it is now. Each sets an annotation; the operator does the rest.
local status = obj.status or {}
local annotations = obj.metadata.annotations or {}
local reason = (status.hold or {}).reason
local waits = reason == "Approval"

local planned = status.plan ~= nil and status.binding ~= nil
local ended = status.state == "Succeeded" or status.state == "RolledBack"
local underWay = planned and not ended and status.rollback == nil
local noReturn = false
for _, each in ipairs(status.phases or {}) do
  noReturn = noReturn or each.pointOfNoReturn == true
end
local paused = (annotations["alongside.dev/pause"] or "") ~= ""
local failed = {
  StoreRefused = true, UndoFailed = true, CleanUpFailed = true, FailedForGood = true, AgentGivenUp = true
}

local actions = {}
actions["approve"] = {
  ["disabled"] = not (underWay and waits),
  ["displayName"] = waits and ("Approve " .. (status.phase or "")) or "Approve",
  ["iconClass"] = "fa fa-fw fa-check"
}
actions["pause"] = {["disabled"] = not underWay or paused, ["iconClass"] = "fa fa-fw fa-pause"}
actions["resume"] = {["disabled"] = not paused, ["iconClass"] = "fa fa-fw fa-play"}
actions["abort"] = {["disabled"] = not underWay or noReturn, ["iconClass"] = "fa fa-fw fa-stop"}
actions["rollback"] = {
  ["disabled"] = not underWay or noReturn,
  ["displayName"] = "Roll back",
  ["iconClass"] = "fa fa-fw fa-undo"
}
actions["retry"] = {
  ["disabled"] = not (planned and (status.state == "RolledBack" or failed[reason or ""] == true)),
  ["iconClass"] = "fa fa-fw fa-redo"
}
return actions
