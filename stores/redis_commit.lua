-- Commit rows of one execution: all or nothing, conditional, idempotent.
--
-- KEYS  1 run  2 owners  3 heads  4 wires  5 order  6 states  7 checkpoints  8 hashes  9 ids
--       10 nodes, then the key of each row's blob     (docs/STORES.md describes them)
-- ARGV  1 execution id  2 its entry in the index of nodes, then 12 for each row:
--       claim, epoch brought along, seq, node id, status, saved_at, wire, "-" or "+" and base hash,
--       "-" or "+" and content hash, checkpoint, number of the blob's key (0: no blob), blob
-- Gives 4 numbers for each row: status, its epoch, the newest epoch, 1 if that one is a deletion.
--
-- A number is sent and stored as its digits behind a letter that counts them (1 is "a1", 42 is
-- "b42"), so that text sorts as numbers do, of any size. A version is epoch and seq, so written.
--
-- Redis does not take back what a failing script wrote. So everything is read and decided first
-- (which also fails here if a key is of a foreign type), and only then written; after the first
-- write Redis lets a script finish, whatever becomes of its memory or disk.

local STORED, FENCED, BASE_MISSING = 1, 2, 4
local FIRST_ROW, ROW = 3, 12
local run, owners, heads, wires, order = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local states, checkpoints, hashes, ids, nodes = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local call = redis.call

local function sortable(number)
  local digits = string.format('%.0f', number)
  return string.char(96 + #digits) .. digits
end

-- What there is.

local owned = call('HMGET', owners, 'newest', 'deleted')
local newest, deleted = tonumber(owned[1] or 0), tonumber(owned[2] or 0)
local line = call('HMGET', run, 'v', 'nodes', 'checkpoints', 'bytes')
local version_of_run = line[1]
local count = {
  nodes = tonumber(line[2] or 0),
  checkpoints = tonumber(line[3] or 0),
  bytes = tonumber(line[4] or 0),
}
for _, key in ipairs({wires, checkpoints, hashes, nodes}) do call('HLEN', key) end
for _, key in ipairs({order, states, ids}) do call('ZCARD', key) end

local owner_of = {} -- by claim
local head_of = {} -- by node id; false: there is none
local added = {} -- checkpoints of this batch, by version: the row's first argument
local best_of = {} -- by content hash: which checkpoint answers for it; false: none
local better = {} -- those of best_of that this batch changes
local newest_row, first_row -- of those that changed something
local counted = false

local function find_owner(claim, brought)
  local owner = owner_of[claim]
  if owner then return owner end
  local epoch = tonumber(call('HGET', owners, '=' .. claim) or 0)
  if epoch > 0 then
    owner = {epoch = epoch, tag = sortable(epoch), last = ''}
    if epoch > deleted then owner.last = call('HGET', owners, '@' .. owner.tag) or '' end
  else
    if brought > 0 and brought <= newest then return nil end
    epoch = brought > 0 and brought or newest + 1
    owner = {epoch = epoch, tag = sortable(epoch), last = '', is_new = true}
    newest = epoch
  end
  owner_of[claim] = owner
  return owner
end

local function find_head(node_id)
  local head = head_of[node_id]
  if head == nil then
    head = false
    local text = call('HGET', heads, node_id)
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
  return call('HEXISTS', checkpoints, version) == 1 and call('EXISTS', blob_key) == 1
end

local function find_best(content)
  if best_of[content] == nil then best_of[content] = call('HGET', hashes, content) end
  return best_of[content]
end

local function replace(head, version, at)
  head.v, head.wire, head.saved_at = version, at + 6, ARGV[at + 5]
  head.carries = ARGV[at + 10] == '0' and '0' or '1'
  head.changed = true
  first_row = first_row or at
  if not version_of_run or version > version_of_run then
    version_of_run, newest_row = version, at
  end
end

-- What becomes of a row.

local function apply(owner, version, at)
  local seq, node_id, blob_key = ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 10])
  -- A row behind the last one is new for sure: the usual case needs no look-up.
  local is_state = blob_key > 0
    and (seq > owner.last or not has_checkpoint(version, KEYS[blob_key]))
  local head = find_head(node_id)
  if not head then
    head = {first = version, state = '-', is_new = true}
    head_of[node_id] = head
    count.nodes, counted = count.nodes + 1, true
    replace(head, version, at)
  elseif version > head.v then
    replace(head, version, at)
  elseif version < head.first then
    head.was_first = head.was_first or head.first
    head.first, head.changed = version, true
  end
  if is_state then
    added[version] = at
    count.checkpoints, counted = count.checkpoints + 1, true
    count.bytes = count.bytes + #ARGV[at + 11]
    if head.state == '-' or version > head.state then
      head.state, head.changed = version, true
    end
    if ARGV[at + 8] ~= '-' then
      local content = string.sub(ARGV[at + 8], 2)
      local best = (ARGV[at + 7] == '-' and '0' or '1') .. version -- full ones first, then old ones
      local known = find_best(content)
      if not known or best < known then best_of[content], better[content] = best, best end
    end
  end
  if seq > owner.last then owner.last, owner.changed = seq, true end
end

local function is_stored(owner, version, at)
  local blob_key = tonumber(ARGV[at + 10])
  if blob_key > 0 then return has_checkpoint(version, KEYS[blob_key]) end
  local head = find_head(ARGV[at + 3])
  if not head or head.v < version then return false end
  return string.sub(head.v, 1, #owner.tag) == owner.tag or ARGV[at + 2] <= owner.last
end

local function decide(at)
  local brought = tonumber(ARGV[at + 1])
  local owner = find_owner(ARGV[at], brought)
  if not owner then return FENCED, brought end
  local version = owner.tag .. ARGV[at + 2]
  if owner.epoch ~= newest then
    return is_stored(owner, version, at) and STORED or FENCED, owner.epoch
  end
  local base, blob_key = ARGV[at + 7], tonumber(ARGV[at + 10])
  if base ~= '-' and not find_best(string.sub(base, 2)) then
    local again = blob_key > 0 and ARGV[at + 2] <= owner.last
    if not again or not has_checkpoint(version, KEYS[blob_key]) then
      return BASE_MISSING, owner.epoch
    end
  end
  apply(owner, version, at)
  return STORED, owner.epoch
end

local results = {}
for at = FIRST_ROW, #ARGV, ROW do
  local status, epoch = decide(at)
  table.insert(results, status)
  table.insert(results, epoch)
  table.insert(results, newest)
  table.insert(results, newest == deleted and 1 or 0)
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

local entries = {}
for node_id, head in pairs(head_of) do
  if head and head.is_new then
    entries[node_id] = with_entry(call('HGET', nodes, node_id) or '', ARGV[2])
  end
end

-- A checkpoint whose blob was evicted: it is counted already.
for version, at in pairs(added) do
  local known = call('HGET', checkpoints, version)
  if known then
    local stored_bytes = cmsgpack.unpack(string.sub(known, 9))[5]
    count.checkpoints, count.bytes = count.checkpoints - 1, count.bytes - stored_bytes
  end
end

-- Write it down.

for claim, owner in pairs(owner_of) do
  if owner.is_new then
    call('HSET', owners, '=' .. claim, string.format('%.0f', owner.epoch), '#' .. owner.tag, claim)
    call('HSET', owners, 'newest', string.format('%.0f', newest))
  end
  if owner.changed then call('HSET', owners, '@' .. owner.tag, owner.last) end
end
for version, at in pairs(added) do
  call('SET', KEYS[tonumber(ARGV[at + 10])], ARGV[at + 11])
  call('HSET', checkpoints, version, ARGV[at + 9])
  call('ZADD', states, 0, version)
end
for content, best in pairs(better) do call('HSET', hashes, content, best) end
for node_id, head in pairs(head_of) do
  if head and head.changed then
    local text = {head.v, head.first, head.carries, head.state, head.saved_at}
    call('HSET', heads, node_id, table.concat(text, ' '))
    if head.wire then call('HSET', wires, node_id, ARGV[head.wire]) end
    if head.is_new then call('HSET', nodes, node_id, entries[node_id]) end
    if head.was_first then call('ZREM', order, head.was_first .. ':' .. node_id) end
    if head.is_new or head.was_first then call('ZADD', order, 0, head.first .. ':' .. node_id) end
  end
end
if first_row and not line[1] then call('HSET', run, 'created', ARGV[first_row + 5]) end
if newest_row then
  call('HSET', run, 'v', version_of_run, 'node', ARGV[newest_row + 3],
    'status', ARGV[newest_row + 4], 'updated', ARGV[newest_row + 5])
end
if counted then
  for name, value in pairs(count) do call('HSET', run, name, string.format('%.0f', value)) end
end
if version_of_run then call('ZADD', ids, 0, ARGV[1]) end -- again each time: it heals
return results
