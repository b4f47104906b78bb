-- Reads of one execution, each a consistent picture in one round trip.
--
-- KEYS  as in commit.lua, without blobs
-- ARGV  1 what its blobs' keys begin with, then
--       "latest"                                   gives version, wire, checkpoint, blob (or less)
--       "node" node id                             gives head, wire, checkpoint, blob (or less)
--       "hash" content hash                        gives version, checkpoint, blob
--       "nodes" after limit bytes                  gives {place, head, wire} of each
--       "checkpoints" after limit bytes blobs      gives {place, wire, checkpoint, blob} of each
--       "outline" after limit                      gives {place, checkpoint} of each
--       "line"                                     gives the last place and the number of the
--                                                  checkpoints, then v, node, life, told of the run
--       "between" low high limit bytes backwards states after upto
--                                                  gives place, then {node id, head, wire,
--                                                  checkpoint, blob} (or less) of each, see between()
--
-- A page ends early once it has so many bytes; one that is empty is the last. A place is a member
-- of the sorted set: "c" and version, or "n", version of the first save, ":" and node id; and for
-- each node "i:" and its id.

local run, places = KEYS[1], KEYS[3]
local call = redis.call
local prefix, verb = ARGV[1], ARGV[2]
-- Nodes that one call goes through, of which those outside a window of versions are left out.
local MOST_LOOKED_AT = 5000

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

local function behind(kind)
  return '(' .. string.char(string.byte(kind) + 1)
end

local function page(kind, after)
  local from = after == '' and '[' .. kind or '(' .. after
  return call('ZRANGEBYLEX', places, from, behind(kind), 'LIMIT', 0, ARGV[4])
end

local function number_of(kind)
  return call('ZLEXCOUNT', places, '[' .. kind, behind(kind))
end

-- The nodes whose ids are between two bounds, and that were first saved above version `after` and
-- not above `upto` ('': any). The place behind which there may be more comes first; '': all of it.
-- False: the index of ids, which an earlier livingai does not keep, lacks some.
local function between(low, high, limit, most, backwards, states, after, upto)
  local node_count = number_of('n')
  if node_count ~= tonumber(call('HGET', run, 'nodes') or 0) then return {false, 'evicted'} end
  if number_of('i') ~= node_count then return {false, 'index'} end
  local command = backwards and 'ZREVRANGEBYLEX' or 'ZRANGEBYLEX'
  local from, to = low, high
  if backwards then from, to = high, low end
  local found, bytes, looked_at = {''}, 0, 0
  while looked_at < MOST_LOOKED_AT do
    local wanted = math.min(limit - #found + 1, 500)
    local members = call(command, places, from, to, 'LIMIT', 0, wanted)
    for _, member in ipairs(members) do
      local node_id = string.sub(member, 3)
      local head = call('HGET', run, 'h:' .. node_id)
      local first, state = string.match(head or '- - - -', '^%S+ (%S+) %S+ (%S+)')
      if head and first > after and (upto == '' or first <= upto) then
        local row = {node_id, head, wire_of(node_id)}
        bytes = bytes + size(row[3])
        if states and state ~= '-' then
          row[4], row[5] = with_blob(state)
          bytes = bytes + size(row[5])
        end
        table.insert(found, row)
        if #found > limit then return found end
        if bytes > most then
          found[1] = member
          return found
        end
      end
    end
    if #members < wanted then return found end
    looked_at = looked_at + wanted
    from = '(' .. members[wanted]
  end
  found[1] = string.sub(from, 2)
  return found
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

if verb == 'between' then
  local limit, most = tonumber(ARGV[5]), tonumber(ARGV[6])
  local backwards, states = ARGV[7] == '1', ARGV[8] == '1'
  return between(ARGV[3], ARGV[4], limit, most, backwards, states, ARGV[9], ARGV[10])
end

if verb == 'line' then
  local last = call('ZREVRANGEBYLEX', places, '(d', '[c', 'LIMIT', 0, 1)[1]
  local line = call('HMGET', run, 'v', 'node', 'life', 'told')
  return {last or '', number_of('c'), unpack(line)}
end

local found, bytes, most = {}, 0, tonumber(ARGV[5])
if verb == 'outline' then
  for _, place in ipairs(page('c', ARGV[3])) do
    table.insert(found, {place, find_checkpoint(string.sub(place, 2))})
  end
  return found
end
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
