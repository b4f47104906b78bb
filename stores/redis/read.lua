-- Reads of one execution, each a consistent picture in one round trip.
--
-- KEYS  as in commit.lua, without blobs
-- ARGV  1 what its blobs' keys begin with, then
--       "latest"                                   gives version, wire, checkpoint, blob (or less)
--       "node" node id                             gives head, wire, checkpoint, blob (or less)
--       "hash" content hash                        gives version, checkpoint, blob
--       "nodes" after limit bytes                  gives {place, head, wire} of each
--       "checkpoints" after limit bytes blobs      gives {place, wire, checkpoint, blob} of each
--
-- A page ends early once it has so many bytes; one that is empty is the last. A place is a member
-- of the sorted set: "c" and version, or "n", version of the first save, ":" and node id.

local run, places = KEYS[1], KEYS[3]
local call = redis.call
local prefix, verb = ARGV[1], ARGV[2]

local function wire_of(node_id)
  return call('HGET', run, 'w:' .. node_id)
end

local function find_checkpoint(version)
  return call('HGET', run, 'c:' .. version)
end

local function unpacked(checkpoint)
  return cmsgpack.unpack(string.sub(checkpoint, 9)) -- behind its sum
end

local function blob_of(version, checkpoint)
  local epoch_digits = string.byte(version) - 96
  local seq = string.sub(version, epoch_digits + 2)
  return call('GET', prefix .. seq .. ':' .. unpacked(checkpoint)[1])
end

local function with_blob(version)
  local checkpoint = find_checkpoint(version)
  return checkpoint, checkpoint and blob_of(version, checkpoint)
end

local function size(text)
  return text and #text or 0
end

local function page(kind, after)
  local from = after == '' and '[' .. kind or '(' .. after
  local behind = '(' .. string.char(string.byte(kind) + 1)
  return call('ZRANGEBYLEX', places, from, behind, 'LIMIT', 0, ARGV[4])
end

if verb == 'latest' then
  local place = call('ZREVRANGEBYLEX', places, '(d', '[c', 'LIMIT', 0, 1)[1]
  if place then
    local version = string.sub(place, 2)
    local checkpoint, blob = with_blob(version)
    return {version, checkpoint and wire_of(unpacked(checkpoint)[2]), checkpoint, blob}
  end
  local line = call('HMGET', run, 'v', 'node')
  return line[1] and {line[1], wire_of(line[2])}
end

if verb == 'node' then
  local head = call('HGET', run, 'h:' .. ARGV[3])
  if not head then return false end
  local version = string.match(head, '^%w+ %w+ %d (%S+)')
  if version == '-' then return {head, wire_of(ARGV[3])} end
  return {head, wire_of(ARGV[3]), with_blob(version)}
end

if verb == 'hash' then
  local best = call('HGET', run, 's:' .. ARGV[3])
  if not best then return false end
  return {string.sub(best, 2), with_blob(string.sub(best, 2))}
end

local found, bytes, most = {}, 0, tonumber(ARGV[5])
if verb == 'nodes' then
  for _, place in ipairs(page('n', ARGV[3])) do
    local node_id = string.sub(place, string.find(place, ':', 1, true) + 1)
    local wire = wire_of(node_id)
    table.insert(found, {place, call('HGET', run, 'h:' .. node_id), wire})
    bytes = bytes + size(wire)
    if bytes > most then break end
  end
else
  for _, place in ipairs(page('c', ARGV[3])) do
    local version = string.sub(place, 2)
    local checkpoint = find_checkpoint(version)
    local wire = checkpoint and wire_of(unpacked(checkpoint)[2])
    local blob = checkpoint and ARGV[6] == '1' and blob_of(version, checkpoint)
    table.insert(found, {place, wire, checkpoint, blob})
    bytes = bytes + size(wire) + size(blob)
    if bytes > most then break end
  end
end
return found
