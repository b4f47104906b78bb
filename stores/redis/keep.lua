-- Claim, delete, drop checkpoints, remove nodes: what changes an execution besides its rows.
--
-- KEYS  as in commit.lua, without blobs
-- ARGV  1 "claim"  2 claim                                  gives its epoch, the newest epoch
--       1 "delete" 2 execution id 3 its entry in the index of nodes 4 what its blobs' keys begin
--         with                                              gives the number of nodes
--       1 "forget" as "delete", its owners as well          gives the number of nodes
--       1 "drop"   2 as 4 of "delete", then versions        gives the bytes of blobs
--       1 "remove" 2 as 4 and 3 as 3 of "delete" 4 place and 5 number of checkpoints 6 nodes
--         7 versions 8 answers, see remove()                gives 1 and the bytes of blobs, or 0
--       1 "settle" 2 version 3 ... fields of the run        gives 1 if that is its version
--       1 "index"  2 place to begin behind 3 number         gives the last place, '': none followed
--
-- As in commit.lua, everything is read before the first write. The keys of blobs are found in
-- the execution's own data; they are in its slot. While a cluster moves that slot, one that is gone
-- already makes the EXISTS fail, before anything was changed.

local run, owners, places, ids, nodes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call
-- checkpoint: claim, node id, state kind, raw bytes, stored bytes, saved_at, base, content, sum
local CLAIM, NODE, STORED_BYTES, BASE, CONTENT = 1, 2, 5, 7, 8
local MOST_ARGUMENTS = 4000 -- of a command in a script: the Lua stack is small

local function sortable(number)
  local digits = string.format('%.0f', number)
  return string.char(96 + #digits) .. digits
end

local function find_checkpoint(version)
  local text = call('HGET', run, 'c:' .. version)
  return text and cmsgpack.unpack(string.sub(text, 9)) -- behind its sum
end

local function blob_key(prefix, version, checkpoint)
  local epoch_digits = string.byte(version) - 96
  return prefix .. string.sub(version, epoch_digits + 2) .. ':' .. checkpoint[CLAIM]
end

-- Versions of all checkpoints, and ids of all nodes.
local function list()
  local versions, node_ids = {}, {}
  for _, place in ipairs(call('ZRANGE', places, 0, -1)) do
    local kind = string.sub(place, 1, 1)
    if kind == 'c' then
      table.insert(versions, string.sub(place, 2))
    elseif kind == 'n' then
      table.insert(node_ids, string.sub(place, string.find(place, ':', 1, true) + 1))
    end
  end
  return versions, node_ids
end

local function head_of(node_id)
  local head = call('HGET', run, 'h:' .. node_id)
  return head and {string.match(head, '^(%w+) (%w+) (%d) (%S+) (%S+)$')}
end

local function write(command, key, list)
  for at = 1, #list, MOST_ARGUMENTS do
    call(command, key, unpack(list, at, math.min(at + MOST_ARGUMENTS - 1, #list)))
  end
end

local function subtract(field, number)
  if number == 0 then return end -- written as -0, it is none for the server
  call('HINCRBY', run, field, string.format('%.0f', -number))
end

local function take(newest, claim)
  local epoch = newest + 1
  local digits = string.format('%.0f', epoch)
  call('HSET', owners, 'newest', digits, '#' .. sortable(epoch), claim)
  return epoch, digits
end

local function claim(token)
  local newest = tonumber(call('HGET', owners, 'newest') or 0)
  local known = call('HGET', owners, '=' .. token)
  if known then return {tonumber(string.match(known, '^%d+')), newest} end
  local epoch, digits = take(newest, token)
  call('HSET', owners, '=' .. token, digits .. ':')
  return {epoch, epoch}
end

local function without_entry(text, entry)
  local kept, at = {}, 1
  while at <= #text do
    local digits = string.byte(text, at) - 96
    local last = at + digits + tonumber(string.sub(text, at + 1, at + digits))
    local found = string.sub(text, at, last)
    if found ~= entry then table.insert(kept, found) end
    at = last + 1
  end
  return table.concat(kept)
end

local function delete(execution_id, entry, prefix, is_forgotten)
  local owned = call('HMGET', owners, 'newest', 'deleted')
  local newest, deleted = tonumber(owned[1] or 0), tonumber(owned[2] or 0)
  local versions, node_ids = list()
  local blobs, others = {}, {}
  for _, version in ipairs(versions) do
    local checkpoint = find_checkpoint(version)
    if checkpoint then
      local key = blob_key(prefix, version, checkpoint)
      call('EXISTS', key)
      table.insert(blobs, key)
    end
  end
  for _, node_id in ipairs(node_ids) do
    others[node_id] = without_entry(call('HGET', nodes, node_id) or '', entry)
  end
  if is_forgotten then
    call('UNLINK', owners)
  elseif newest > 0 and newest ~= deleted then
    local _, digits = take(newest, '')
    call('HSET', owners, 'deleted', digits)
  end
  for _, key in ipairs(blobs) do call('UNLINK', key) end
  for node_id, text in pairs(others) do
    if text == '' then call('HDEL', nodes, node_id) else call('HSET', nodes, node_id, text) end
  end
  call('UNLINK', run, places)
  call('ZREM', ids, execution_id)
  return #node_ids
end

-- Whatever pointed to a dropped checkpoint points to the best one that is left.
local function point_anew(gone_contents, gone_nodes)
  local best_of, state_of = {}, {}
  for _, version in ipairs((list())) do
    local checkpoint = find_checkpoint(version)
    local content = checkpoint and checkpoint[CONTENT]
    if content and gone_contents[content] then
      local best = (checkpoint[BASE] and '1' or '0') .. version
      if not best_of[content] or best < best_of[content] then best_of[content] = best end
    end
    if checkpoint and gone_nodes[checkpoint[NODE]] then
      state_of[checkpoint[NODE]] = version -- they come oldest first
    end
  end
  for content in pairs(gone_contents) do
    if best_of[content] then
      call('HSET', run, 's:' .. content, best_of[content])
    else
      call('HDEL', run, 's:' .. content)
    end
  end
  for node_id, head in pairs(gone_nodes) do
    local v, first, carries, _, saved_at = unpack(head)
    local text = {v, first, carries, state_of[node_id] or '-', saved_at}
    call('HSET', run, 'h:' .. node_id, table.concat(text, ' '))
  end
end

local function drop(prefix)
  local gone, gone_contents, gone_nodes = {}, {}, {}
  local count, size, must_point_anew = 0, 0, false
  for at = 3, #ARGV do
    local version = ARGV[at]
    local checkpoint = not gone[version] and find_checkpoint(version)
    if checkpoint then
      local content, node_id = checkpoint[CONTENT], checkpoint[NODE]
      gone[version] = blob_key(prefix, version, checkpoint)
      call('EXISTS', gone[version])
      count, size = count + 1, size + checkpoint[STORED_BYTES]
      local best = content and call('HGET', run, 's:' .. content)
      if best and string.sub(best, 2) == version then
        gone_contents[content], must_point_anew = true, true
      end
      local head = head_of(node_id)
      if head and head[4] == version then gone_nodes[node_id], must_point_anew = head, true end
    end
  end
  if count == 0 then return 0 end
  for version, key in pairs(gone) do
    call('UNLINK', key)
    call('HDEL', run, 'c:' .. version)
    call('ZREM', places, 'c' .. version)
  end
  if must_point_anew then point_anew(gone_contents, gone_nodes) end
  subtract('checkpoints', count)
  subtract('bytes', size)
  return size
end

-- Whether the plan to remove nodes (heads by id) with all their checkpoints (going, by version) still
-- holds. It was made of `count` checkpoints up to the place `top`; those must be there still. Later
-- ones must not be of these nodes, nor build on what goes; `answers` is completed from them.
local function still_holds(heads, going, top, count, answers)
  local known = top == '' and 0 or call('ZLEXCOUNT', places, '[c', '[' .. top)
  if known ~= count then return false end
  local from = top == '' and '[c' or '(' .. top
  for _, place in ipairs(call('ZRANGEBYLEX', places, from, '(d')) do
    local version = string.sub(place, 2)
    local checkpoint = find_checkpoint(version)
    if not checkpoint or heads[checkpoint[NODE]] then return false end
    local base = checkpoint[BASE]
    local answer = base and call('HGET', run, 's:' .. base)
    if answer and going[string.sub(answer, 2)] then return false end
    local content, best = checkpoint[CONTENT], (base and '1' or '0') .. version
    local known_best = content and answers[content]
    if known_best and (known_best == '' or best < known_best) then answers[content] = best end
  end
  return true
end

-- Remove nodes: (id, version of the newest save) of each, one after the other; the versions of all
-- their checkpoints; and for each content that one of these may answer for: (content, what answers
-- then, as in s:; '' if nothing does). 0: the execution has changed since this was planned.
local function remove(prefix, entry, top, count)
  local nodes_and_versions, versions = cmsgpack.unpack(ARGV[6]), cmsgpack.unpack(ARGV[7])
  local contents = cmsgpack.unpack(ARGV[8])
  local heads, going, answers = {}, {}, {}
  for at = 1, #nodes_and_versions, 2 do
    local head = head_of(nodes_and_versions[at])
    if not head or head[1] ~= nodes_and_versions[at + 1] then return {0} end
    heads[nodes_and_versions[at]] = head
  end
  for _, version in ipairs(versions) do going[version] = true end
  for at = 1, #contents, 2 do answers[contents[at]] = contents[at + 1] end
  if not still_holds(heads, going, top, count, answers) then return {0} end

  local fields, members, blobs, to_run, to_nodes, from_nodes = {}, {}, {}, {}, {}, {}
  local size, node_count = 0, 0
  local dropped = call('HGET', run, 'dropped') or ''
  for _, version in ipairs(versions) do
    local checkpoint = find_checkpoint(version)
    if not checkpoint then return {0} end
    local key = blob_key(prefix, version, checkpoint)
    call('EXISTS', key)
    table.insert(blobs, key)
    table.insert(fields, 'c:' .. version)
    table.insert(members, 'c' .. version)
    size = size + checkpoint[STORED_BYTES]
  end
  for content, best in pairs(answers) do
    local known = call('HGET', run, 's:' .. content)
    if known and going[string.sub(known, 2)] then
      if best == '' then
        table.insert(fields, 's:' .. content)
      else
        table.insert(to_run, 's:' .. content)
        table.insert(to_run, best)
      end
    end
  end
  for node_id, head in pairs(heads) do
    node_count = node_count + 1
    if head[1] > dropped then dropped = head[1] end
    table.insert(fields, 'h:' .. node_id)
    table.insert(fields, 'w:' .. node_id)
    table.insert(members, 'n' .. head[2] .. ':' .. node_id)
    table.insert(members, 'i:' .. node_id)
    local others = without_entry(call('HGET', nodes, node_id) or '', entry)
    if others == '' then
      table.insert(from_nodes, node_id)
    else
      table.insert(to_nodes, node_id)
      table.insert(to_nodes, others)
    end
  end
  for _, key in ipairs(blobs) do call('UNLINK', key) end
  write('HDEL', run, fields)
  write('HSET', run, to_run)
  if dropped ~= '' then call('HSET', run, 'dropped', dropped) end
  write('ZREM', places, members)
  write('HDEL', nodes, from_nodes)
  write('HSET', nodes, to_nodes)
  subtract('nodes', node_count)
  subtract('checkpoints', #versions)
  subtract('bytes', size)
  return {1, size}
end

-- An earlier livingai keeps no index of ids: what it lacks, page by page.
local function index(after, count)
  local from = after == '' and '[n' or '(' .. after
  local page = call('ZRANGEBYLEX', places, from, '(o', 'LIMIT', 0, count)
  local members = {}
  for _, place in ipairs(page) do
    table.insert(members, 0)
    table.insert(members, 'i' .. string.sub(place, string.find(place, ':', 1, true), -1))
  end
  write('ZADD', places, members)
  return page[#page] or ''
end

-- What an earlier livingai does not note of a run: its last life, and how that ended.
local function settle()
  if call('HGET', run, 'v') ~= ARGV[2] then return 0 end
  call('HSET', run, unpack(ARGV, 3))
  return 1
end

if ARGV[1] == 'settle' then return settle() end
if ARGV[1] == 'index' then return index(ARGV[2], ARGV[3]) end
if ARGV[1] == 'remove' then return remove(ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])) end
if ARGV[1] == 'claim' then return claim(ARGV[2]) end
if ARGV[1] == 'delete' then return delete(ARGV[2], ARGV[3], ARGV[4], false) end
if ARGV[1] == 'forget' then return delete(ARGV[2], ARGV[3], ARGV[4], true) end
return drop(ARGV[2])
