-- Reads of one execution, each a consistent picture in one round trip.
--
-- KEYS  as in redis_commit.lua, without blobs
-- ARGV  1 what its blobs' keys begin with, then
--       "latest"                                   gives version, wire, checkpoint, blob (or less)
--       "node" node id                             gives head, wire, checkpoint, blob (or less)
--       "hash" content hash                        gives version, checkpoint, blob
--       "nodes" after limit bytes                  gives {place, head, wire} of each
--       "checkpoints" after limit bytes blobs      gives {version, wire, checkpoint, blob} of each
--
-- A page ends early once it has so many bytes; one that is empty is the last.

local run, heads, wires, order = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
local states, checkpoints, hashes = KEYS[6], KEYS[7], KEYS[8]
local call = redis.call
local prefix, verb = ARGV[1], ARGV[2]

local function blob_of(version, checkpoint)
  local claim = cmsgpack.unpack(string.sub(checkpoint, 9))[1]
  local epoch_digits = string.byte(version) - 96
  return call('GET', prefix .. string.sub(version, epoch_digits + 2) .. ':' .. claim)
end

local function wire_of(checkpoint)
  return call('HGET', wires, cmsgpack.unpack(string.sub(checkpoint, 9))[2])
end

local function size(text)
  return text and #text or 0
end

local function page(key, after)
  local from = after == '' and '-' or '(' .. after
  return call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, ARGV[4])
end

if verb == 'latest' then
  local version = call('ZRANGE', states, -1, -1)[1]
  if version then
    local checkpoint = call('HGET', checkpoints, version)
    if not checkpoint then return {version, false, false, false} end
    return {version, wire_of(checkpoint), checkpoint, blob_of(version, checkpoint)}
  end
  local line = call('HMGET', run, 'v', 'node')
  if not line[1] then return false end
  return {line[1], call('HGET', wires, line[2])}
end

if verb == 'node' then
  local head = call('HGET', heads, ARGV[3])
  if not head then return false end
  local wire = call('HGET', wires, ARGV[3])
  local version = string.match(head, '^%w+ %w+ %d (%S+)')
  if version == '-' then return {head, wire} end
  local checkpoint = call('HGET', checkpoints, version)
  return {head, wire, checkpoint, checkpoint and blob_of(version, checkpoint)}
end

if verb == 'hash' then
  local best = call('HGET', hashes, ARGV[3])
  if not best then return false end
  local version = string.sub(best, 2)
  local checkpoint = call('HGET', checkpoints, version)
  return {version, checkpoint, checkpoint and blob_of(version, checkpoint)}
end

local found, bytes, most = {}, 0, tonumber(ARGV[5])
if verb == 'nodes' then
  for _, place in ipairs(page(order, ARGV[3])) do
    local node_id = string.sub(place, string.find(place, ':', 1, true) + 1)
    local wire = call('HGET', wires, node_id)
    table.insert(found, {place, call('HGET', heads, node_id), wire})
    bytes = bytes + size(wire)
    if bytes > most then break end
  end
else
  for _, version in ipairs(page(states, ARGV[3])) do
    local checkpoint = call('HGET', checkpoints, version)
    local wire = checkpoint and wire_of(checkpoint)
    local blob = checkpoint and ARGV[6] == '1' and blob_of(version, checkpoint)
    table.insert(found, {version, wire, checkpoint, blob})
    bytes = bytes + size(wire) + size(blob)
    if bytes > most then break end
  end
end
return found
