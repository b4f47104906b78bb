-- Commit rows of one execution: all or nothing, conditional, idempotent.
--
-- KEYS  1 run  2 owners  3 places  4 ids  5 nodes, then the key of each row's blob
--       (docs/STORES.md describes them)
-- ARGV  1 execution id  2 its entry in the index of nodes, then 4 for each row: fields (msgpack),
--       wire, checkpoint, blob (the last two are empty where there is no state)
-- Gives 4 numbers for each row: status, its epoch, the newest epoch, 1 if that one is a deletion.
--
-- A number is stored as its digits behind a letter that counts them (1 is "a1", 42 is "b42"), so
-- that text sorts as numbers do, of any size. A version is epoch and seq, so written.
--
-- Redis does not take back what a failing script wrote. So everything is read and decided first
-- (which also fails here if a key is of a foreign type), and only then written; after the first
-- write Redis lets a script finish, even if it runs out of memory or disk. Writes are few and
-- large: each one is a command in the append-only file.

local STORED, FENCED, BASE_MISSING = 1, 2, 4
local FIRST_ROW, ROW = 3, 4
-- Fields of a row. BASE and CONTENT are hashes or nil, BLOB is the number of its key or 0.
local CLAIM, EPOCH, SEQ, NODE, STATUS, SAVED_AT, BASE, CONTENT, BLOB = 1, 2, 3, 4, 5, 6, 7, 8, 9
-- Of the execution's standing: 1 if it is a life's, its error line, when the life began and ended.
local IS_LIFE, ERROR, ENTERED, ENDED = 10, 11, 12, 13
local MOST_ARGUMENTS = 4000 -- of a command in a script: the Lua stack is small
local run, owners, places, ids, nodes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call

local function digits_of(number)
  return string.format('%.0f', number)
end

local function sortable(number)
  local digits = digits_of(number)
  return string.char(96 + #digits) .. digits
end

-- What there is.

local owned = call('HMGET', owners, 'newest', 'deleted')
local newest, deleted = tonumber(owned[1] or 0), tonumber(owned[2] or 0)
local line = call('HMGET', run, 'v', 'nodes', 'checkpoints', 'bytes', 'life', 'error', 'told')
local version_of_run = line[1]
local node_count, checkpoint_count = tonumber(line[2] or 0), tonumber(line[3] or 0)
local byte_count = tonumber(line[4] or 0)
call('ZCARD', places)
call('ZCARD', ids)
call('HLEN', nodes)

local owner_of = {} -- by claim
local head_of = {} -- by node id; false: there is none
local added = {} -- checkpoints of this batch, by version: where the row begins in ARGV, its fields
local best_of = {} -- by content hash: which checkpoint answers for it; false: none
local better = {} -- those of best_of that this batch changes
local newest_row, first_row -- fields of those that changed something
-- Version of the newest record of a life; '' without one. An earlier livingai does not keep that up,
-- nor 'told', which is the version up to which it is: a listing that finds it older looks at nodes.
local life, life_row = line[5] or '', nil

local function find_owner(claim, brought)
  local owner = owner_of[claim]
  if owner then return owner end
  local known = call('HGET', owners, '=' .. claim)
  if known then
    local digits, last = string.match(known, '^(%d+):(.*)$')
    owner = {epoch = tonumber(digits), last = last}
    if owner.epoch < deleted then owner.last = '' end
  else
    if brought > 0 and brought <= newest then return nil end
    newest = brought > 0 and brought or newest + 1
    owner = {epoch = newest, last = '', is_new = true, changed = true}
  end
  owner.tag = sortable(owner.epoch)
  owner_of[claim] = owner
  return owner
end

local function find_head(node_id)
  local head = head_of[node_id]
  if head == nil then
    head = false
    local text = call('HGET', run, 'h:' .. node_id)
    if text then
      local v, first, carries, state, saved_at = string.match(text, '^(%w+) (%w+) (%d) (%S+) (%S+)$')
      head = {v = v, first = first, carries = carries, state = state, saved_at = saved_at}
    end
    head_of[node_id] = head
  end
  return head
end

local function has_checkpoint(version, blob_key)
  if added[version] then return true end
  -- A blob that was evicted counts as not stored: it is then written again.
  return call('HEXISTS', run, 'c:' .. version) == 1 and call('EXISTS', blob_key) == 1
end

local function find_best(content)
  if best_of[content] == nil then best_of[content] = call('HGET', run, 's:' .. content) end
  return best_of[content]
end

-- What a row is to lead to.

local function replace(head, version, row, at)
  head.v, head.wire, head.saved_at = version, at + 1, row[SAVED_AT]
  head.carries = row[BLOB] == 0 and '0' or '1'
  head.changed = true
  first_row = first_row or row
  if not version_of_run or version > version_of_run then
    version_of_run, newest_row = version, row
  end
end

local function add_checkpoint(head, version, row, at)
  added[version] = {at, row}
  checkpoint_count = checkpoint_count + 1
  byte_count = byte_count + #ARGV[at + 3]
  if head.state == '-' or version > head.state then
    head.state, head.changed = version, true
  end
  local content = row[CONTENT]
  if content then
    local best = (row[BASE] and '1' or '0') .. version -- full ones first, then old ones
    local known = find_best(content)
    if not known or best < known then best_of[content], better[content] = best, best end
  end
end

local function apply(owner, version, row, at)
  -- A row behind the last one is new for sure: the usual case needs no look-up.
  local is_state = row[BLOB] > 0
    and (row[SEQ] > owner.last or not has_checkpoint(version, KEYS[row[BLOB]]))
  local head = find_head(row[NODE])
  if not head then
    head = {first = version, state = '-', is_new = true}
    head_of[row[NODE]] = head
    node_count = node_count + 1
    replace(head, version, row, at)
  elseif version > head.v then
    replace(head, version, row, at)
  elseif version < head.first then
    head.was_first = head.was_first or head.first
    head.first, head.changed = version, true
  end
  if is_state then add_checkpoint(head, version, row, at) end
  if row[IS_LIFE] == 1 and version > life then life, life_row = version, row end
  if row[SEQ] > owner.last then owner.last, owner.changed = row[SEQ], true end
end

local function is_stored(owner, version, row)
  if row[BLOB] > 0 then return has_checkpoint(version, KEYS[row[BLOB]]) end
  local head = find_head(row[NODE])
  if not head or head.v < version then return false end
  return string.sub(head.v, 1, #owner.tag) == owner.tag or row[SEQ] <= owner.last
end

local function decide(row, at)
  local owner = find_owner(row[CLAIM], row[EPOCH])
  if not owner then return FENCED, row[EPOCH] end
  local version = owner.tag .. row[SEQ]
  if owner.epoch ~= newest then
    return is_stored(owner, version, row) and STORED or FENCED, owner.epoch
  end
  if row[BASE] and not find_best(row[BASE]) then
    local again = row[BLOB] > 0 and row[SEQ] <= owner.last
    if not again or not has_checkpoint(version, KEYS[row[BLOB]]) then
      return BASE_MISSING, owner.epoch
    end
  end
  apply(owner, version, row, at)
  return STORED, owner.epoch
end

local results = {}
for at = FIRST_ROW, #ARGV, ROW do
  local status, epoch = decide(cmsgpack.unpack(ARGV[at]), at)
  local count = #results
  results[count + 1], results[count + 2] = status, epoch
  results[count + 3], results[count + 4] = newest, newest == deleted and 1 or 0
end

-- A node that is new here may be known in other executions.

local function with_entry(text, entry)
  local at = 1
  while at <= #text do
    local digits = string.byte(text, at) - 96
    local last = at + digits + tonumber(string.sub(text, at + 1, at + digits))
    if string.sub(text, at, last) == entry then return text end
    at = last + 1
  end
  return text .. entry
end

-- What changes, as the commands' arguments.

local to_run, to_places, to_nodes, to_owners, from_places = {}, {}, {}, {}, {}

local function put(list, one, other)
  local count = #list
  list[count + 1], list[count + 2] = one, other
end

for node_id, head in pairs(head_of) do
  if head and head.changed then
    local text = {head.v, head.first, head.carries, head.state, head.saved_at}
    put(to_run, 'h:' .. node_id, table.concat(text, ' '))
    if head.wire then put(to_run, 'w:' .. node_id, ARGV[head.wire]) end
    if head.is_new then
      put(to_nodes, node_id, with_entry(call('HGET', nodes, node_id) or '', ARGV[2]))
    end
    if head.was_first then table.insert(from_places, 'n' .. head.was_first .. ':' .. node_id) end
    if head.is_new or head.was_first then put(to_places, 0, 'n' .. head.first .. ':' .. node_id) end
    if head.is_new then put(to_places, 0, 'i:' .. node_id) end
  end
end
for version, found in pairs(added) do
  local at, row = found[1], found[2]
  put(to_run, 'c:' .. version, ARGV[at + 2])
  put(to_places, 0, 'c' .. version)
  if row[SEQ] <= owner_of[row[CLAIM]].last then
    local known = call('HGET', run, 'c:' .. version) -- its blob was evicted; it is counted already
    if known then
      checkpoint_count = checkpoint_count - 1
      byte_count = byte_count - cmsgpack.unpack(string.sub(known, 9))[5]
    end
  end
end
for content, best in pairs(better) do put(to_run, 's:' .. content, best) end
for claim, owner in pairs(owner_of) do
  if owner.changed then
    put(to_owners, '=' .. claim, digits_of(owner.epoch) .. ':' .. owner.last)
    if owner.is_new then put(to_owners, '#' .. owner.tag, claim) end
  end
end
if digits_of(newest) ~= owned[1] and newest > 0 then put(to_owners, 'newest', digits_of(newest)) end
if newest_row then
  put(to_run, 'v', version_of_run)
  put(to_run, 'node', newest_row[NODE])
  put(to_run, 'updated', newest_row[SAVED_AT])
  if line[7] == line[1] then put(to_run, 'told', version_of_run) end -- also where there was neither
end
local telling = life_row or life == '' and newest_row
if telling then
  put(to_run, 'status', telling[STATUS])
  if telling[ERROR] ~= (line[6] or '') then put(to_run, 'error', telling[ERROR]) end
end
if life_row then
  put(to_run, 'life', life)
  put(to_run, 'entered', life_row[ENTERED])
  put(to_run, 'ended', life_row[ENDED])
end
if first_row and not line[1] then put(to_run, 'created', first_row[SAVED_AT]) end
if #to_run > 0 then
  put(to_run, 'nodes', digits_of(node_count))
  put(to_run, 'checkpoints', digits_of(checkpoint_count))
  put(to_run, 'bytes', digits_of(byte_count))
end

-- Write it down.

local function write(command, key, list)
  for at = 1, #list, MOST_ARGUMENTS do
    call(command, key, unpack(list, at, math.min(at + MOST_ARGUMENTS - 1, #list)))
  end
end

for _, found in pairs(added) do
  call('SET', KEYS[found[2][BLOB]], ARGV[found[1] + 3])
end
write('HSET', run, to_run)
write('HSET', owners, to_owners)
write('HSET', nodes, to_nodes)
write('ZREM', places, from_places)
write('ZADD', places, to_places)
if version_of_run then call('ZADD', ids, 0, ARGV[1]) end -- again each time: it heals
return results
