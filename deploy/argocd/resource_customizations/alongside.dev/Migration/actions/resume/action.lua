-- Lifts the pause.
if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["alongside.dev/pause"] = nil
end
return obj
