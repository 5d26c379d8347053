"""What a ledger on Redis runs within the server: a few scripts, each of which is atomic.

They look, compare and write; what a delivery becomes is decided in :mod:`oni.ledger._states`, as
for every other store. These are the keys, all in the one slot that the namespace in braces names:

``oni:{namespace}:e:KEY``
    A hash: ``event`` is its JSON, ``digest`` the payload's, and ``d:HANDLER`` a delivery's JSON.
``oni:{namespace}:p:KEY``, ``oni:{namespace}:o:KEY``
    The payload, and a list of what operators decided.
``oni:{namespace}:due:HANDLER``
    Pending deliveries that wait for none of a lower rank: keys, by when they may be claimed.
``oni:{namespace}:s:STATE``
    The deliveries in a state: ``HANDLER/KEY``, by when they came into it.
``oni:{namespace}:finished``, ``oni:{namespace}:handlers``
    Keys that are done with, by when; and the names of all handlers that ever had one due.

None of them ever expires.
"""

from __future__ import annotations

import re

__all__ = ["COMMANDS", "SCRIPTS", "VERSION"]

VERSION = 1
"""What this program writes into each row. Rows of another version are another program's: they are
left alone, and so is what cannot be read."""

# In Lua a row's fields have these places; oni.ledger._redis_rows has them, too.
_COMMON = f"""
local P = ARGV[1]
local VERSION, STATE, TOKEN, OWNER, LEASE, RANK, NEXT, CHANGED, CRASHES = 1, 2, 3, 4, 5, 6, 7, 8, 9
local GROUP, ADMITTED = 2, 3
local ENDED = {{done = true, dead = true, uncertain = true}}

local function ours(text)
  if not text then return nil end
  local ok, row = pcall(cjson.decode, text)
  if ok and type(row) == 'table' and row[VERSION] == {VERSION} then return row end
end

local STATES = {{pending = true, running = true, done = true, dead = true, uncertain = true}}
local TYPES = {{[STATE] = 'string', [OWNER] = 'string', [12] = 'string', [13] = 'string'}}

local function delivery(text)
  local row = ours(text)
  if not row or not STATES[row[STATE]] then return nil end
  for place = 1, 14 do
    if type(row[place]) ~= (TYPES[place] or 'number') then return nil end
  end
  return row
end

local function event_of(text)
  local row = ours(text)
  if row and type(row[GROUP]) == 'string' and type(row[ADMITTED]) == 'number' then return row end
end

local function row_of(key, handler)
  return delivery(redis.call('HGET', P .. 'e:' .. key, 'd:' .. handler))
end

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function exactly(number)
  return string.format('%.17g', number)
end

local function arrange(key)
  local event, rows, done, last, lowest = nil, {{}}, true, 0, math.huge
  local fields = redis.call('HGETALL', P .. 'e:' .. key)
  for i = 1, #fields, 2 do
    local name = fields[i]
    if name == 'event' then
      event = event_of(fields[i + 1])
      if event then last = math.max(last, event[ADMITTED]) end
    elseif string.sub(name, 1, 2) == 'd:' then
      local row = delivery(fields[i + 1])
      if row then
        rows[string.sub(name, 3)] = row
        last = math.max(last, row[CHANGED])
        if not ENDED[row[STATE]] then lowest = math.min(lowest, row[RANK]) end
      else
        lowest = -1
      end
      done = done and row and row[STATE] == 'done'
    end
  end
  for handler, row in pairs(rows) do
    if event and row[STATE] == 'pending' and row[RANK] <= lowest then
      redis.call('ZADD', P .. 'due:' .. handler, row[NEXT], key)
      redis.call('SADD', P .. 'handlers', handler)
    else
      redis.call('ZREM', P .. 'due:' .. handler, key)
    end
  end
  if event and done then
    redis.call('ZADD', P .. 'finished', last, key)
  else
    redis.call('ZREM', P .. 'finished', key)
  end
end
"""

# Gives the time, and the hashes of keys. ARGV: prefix, time or '', keys...
_READ = """
local found = {exactly(clock(ARGV[2]))}
for i = 3, #ARGV do
  found[#found + 1] = redis.call('HGETALL', P .. 'e:' .. ARGV[i])
end
return found
"""

# Gives what is kept beside a key's hash. ARGV: prefix, key
_SHOW = """
return {
  redis.call('GET', P .. 'p:' .. ARGV[2]),
  redis.call('LRANGE', P .. 'o:' .. ARGV[2], 0, -1),
}
"""

# Gives what is due, and keeps others from being given it for a second: by then it is claimed, or
# whoever asked is dead. ARGV: prefix, time or '', limit, handlers and keys as JSON
_OFFER = """
local now, limit = clock(ARGV[2]), tonumber(ARGV[3])
local wanted = cjson.decode(ARGV[4])
local found, taken, alone = {exactly(now)}, 0, false
local is_touched = {}
for _, key in ipairs(wanted.touched) do is_touched[key] = true end

local function page(name, start)
  if not wanted.keys then
    return redis.call('ZRANGEBYSCORE', name, '-inf', now, 'LIMIT', start, 64)
  end
  local due = {}
  for _, key in ipairs(start == 0 and wanted.keys or {}) do
    local at = redis.call('ZSCORE', name, key)
    if at and tonumber(at) <= now then due[#due + 1] = {tonumber(at), key} end
  end
  table.sort(due, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for i, each in ipairs(due) do due[i] = each[2] end
  return due
end

for place, handler in ipairs(wanted.handlers) do
  local share = math.ceil((limit - taken) / (#wanted.handlers - place + 1))
  local name, given, start, stop = P .. 'due:' .. handler, {}, 0, share <= 0
  while not stop and start < 10000 do
    local keys = page(name, start)
    stop = #keys == 0
    start = start + #keys
    for _, key in ipairs(keys) do
      if #given >= share then stop = true; break end
      local event = event_of(redis.call('HGET', P .. 'e:' .. key, 'event'))
      local text = redis.call('HGET', P .. 'e:' .. key, 'd:' .. handler)
      local row = delivery(text)
      if event and row and row[STATE] == 'pending' and not is_touched[key] then
        -- What has outlived an owner comes alone. Who has more to choose from sees to that itself.
        local suspect = row[CRASHES] > 0 and #wanted.touched == 0
        if suspect and taken > 0 then stop = true; break end
        given[#given + 1] = key
        taken = taken + 1
        found[#found + 1] = {handler, key, text, event[GROUP],
          redis.call('GET', P .. 'p:' .. key) or ''}
        alone = suspect
        if alone then stop = true; break end
      end
    end
  end
  for _, key in ipairs(given) do redis.call('ZADD', name, now + 1, key) end
  if alone then break end
end
return found
"""

# Lists keys anew where they belong. ARGV: prefix, keys...
_ARRANGE = """
for i = 2, #ARGV do arrange(ARGV[i]) end
return 'arranged'
"""

# Keeps a whole transaction, or nothing. ARGV: prefix, plan as JSON, what it points at...
_COMMIT = """
local plan = cjson.decode(ARGV[2])
local lost, is_lost = {'lost'}, {}
local function lose(key)
  if is_lost[key] then return end
  is_lost[key] = true
  lost[#lost + 1] = key
  lost[#lost + 1] = redis.call('HGETALL', P .. 'e:' .. key)
end

for _, key in ipairs(plan.absent) do
  if redis.call('EXISTS', P .. 'e:' .. key) == 1 then lose(key) end
end
for _, want in ipairs(plan.rows) do
  local key, handler, state, token, owner, lease = unpack(want)
  local row = row_of(key, handler)
  if not row or row[STATE] ~= state or row[TOKEN] ~= token or row[OWNER] ~= owner
      or (lease ~= false and row[LEASE] ~= lease) then
    lose(key)
  end
end
if #lost > 1 then
  for _, key in ipairs(plan.offered) do arrange(key) end
  return lost
end

local undo = {}
for i, effect in ipairs(plan.effects) do
  if i < #plan.effects then
    for _, place in ipairs(effect.keys) do
      local key = ARGV[place]
      if redis.acl_check_cmd and not (redis.acl_check_cmd('RESTORE', key, '0', 'x')
          and redis.acl_check_cmd('DEL', key)) then
        return {'refused', i, 'this user may not undo it with DEL and RESTORE'}
      end
      undo[#undo + 1] = {key, redis.call('DUMP', key), redis.call('PTTL', key)}
    end
  end
end
for i, effect in ipairs(plan.effects) do
  local words = {}
  for place = effect.first, effect.last do words[#words + 1] = ARGV[place] end
  local answer = redis.pcall(unpack(words))
  if type(answer) == 'table' and answer.err then
    for back = #undo, 1, -1 do
      local key, value, ttl = unpack(undo[back])
      redis.call('DEL', key)
      if value then redis.call('RESTORE', key, math.max(ttl, ttl < 0 and 0 or 1), value) end
    end
    for _, key in ipairs(plan.offered) do arrange(key) end
    return {'refused', i, answer.err}
  end
end

local function forget(key)
  local fields = redis.call('HGETALL', P .. 'e:' .. key)
  for i = 1, #fields, 2 do
    local row = string.sub(fields[i], 1, 2) == 'd:' and delivery(fields[i + 1])
    if row then
      local handler = string.sub(fields[i], 3)
      redis.call('ZREM', P .. 's:' .. row[STATE], handler .. '/' .. key)
      redis.call('ZREM', P .. 'due:' .. handler, key)
    end
  end
  redis.call('UNLINK', P .. 'e:' .. key, P .. 'p:' .. key, P .. 'o:' .. key)
end

for _, each in ipairs(plan.entries) do
  local name = P .. 'e:' .. each.key
  if each.anew then forget(each.key) end
  if each.event then
    redis.call('HSET', name, 'event', each.event, 'digest', each.digest)
    redis.call('SET', P .. 'p:' .. each.key, ARGV[each.payload])
  end
  for _, pair in ipairs(each.deliveries) do
    local handler, text = pair[1], pair[2]
    local before, after = row_of(each.key, handler), cjson.decode(text)
    local member = handler .. '/' .. each.key
    if before and before[STATE] ~= after[STATE] then
      redis.call('ZREM', P .. 's:' .. before[STATE], member)
    end
    redis.call('HSET', name, 'd:' .. handler, text)
    redis.call('ZADD', P .. 's:' .. after[STATE], after[CHANGED], member)
  end
  for _, decision in ipairs(each.decisions) do
    redis.call('RPUSH', P .. 'o:' .. each.key, decision)
  end
  arrange(each.key)
end
for _, key in ipairs(plan.offered) do arrange(key) end
return {'kept'}
"""

# Gives some of those who are in a state, who came last at first, and before them where to go on,
# or -1: nobody else is served meanwhile. ARGV: prefix, limit, handler or '', state, where to begin
_LIST = """
local limit, start, place = tonumber(ARGV[2]), ARGV[3] .. '/', tonumber(ARGV[5])
local found = {-1}
for _ = 1, 10 do
  local page = redis.call('ZREVRANGE', P .. 's:' .. ARGV[4], place, place + 999, 'WITHSCORES')
  place = place + 1000
  if #page == 0 then return found end
  for i = 1, #page, 2 do
    if start == '/' or string.sub(page[i], 1, #start) == start then
      if #found > 2 * limit then return found end
      found[#found + 1] = page[i]
      found[#found + 1] = page[i + 1]
    end
  end
end
found[1] = place
return found
"""

# Gives who has become pending after a time. ARGV: prefix, time, limit
_CHANGED_AFTER = """
return redis.call('ZRANGEBYSCORE', P .. 's:pending', '(' .. ARGV[2], '+inf', 'LIMIT', 0, ARGV[3])
"""

# Counts who is in each state. ARGV: prefix, states...
_COUNT = """
local found = {}
for i = 2, #ARGV do found[#found + 1] = redis.call('ZCARD', P .. 's:' .. ARGV[i]) end
return found
"""

# Says since when the first that is due has been so. ARGV: prefix
_DUE_SINCE = """
local first
for _, handler in ipairs(redis.call('SMEMBERS', P .. 'handlers')) do
  local found = redis.call('ZRANGE', P .. 'due:' .. handler, 0, 0, 'WITHSCORES')
  if found[2] then first = math.min(first or math.huge, tonumber(found[2])) end
end
return first and exactly(first)
"""

# Gives keys that are done with since before a time. ARGV: prefix, time, limit
_FINISHED = """
return redis.call('ZRANGEBYSCORE', P .. 'finished', '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
"""

# Gives those commands that this user may not call with the ledger's keys: a script that is kept
# from going on stays half done. Redis 6 does not tell. ARGV: prefix, commands...
_FORBIDDEN = """
local found, key = {}, P .. 'e:'
for i = 2, #ARGV do
  if redis.acl_check_cmd and not redis.acl_check_cmd(ARGV[i], key, key, key) then
    found[#found + 1] = ARGV[i]
  end
end
return found
"""

SCRIPTS = {
    "arrange": _COMMON + _ARRANGE,
    "changed after": _COMMON + _CHANGED_AFTER,
    "commit": _COMMON + _COMMIT,
    "count": _COMMON + _COUNT,
    "due since": _COMMON + _DUE_SINCE,
    "finished": _COMMON + _FINISHED,
    "forbidden": _COMMON + _FORBIDDEN,
    "list": _COMMON + _LIST,
    "offer": _COMMON + _OFFER,
    "read": _COMMON + _READ,
    "show": _COMMON + _SHOW,
}
"""The scripts, by name. Each takes the prefix of all keys as its first argument."""

# What handlers' commands are undone with is looked at when there are any.
_TO_UNDO = {"DEL", "DUMP", "PTTL", "RESTORE"}

COMMANDS = tuple(
    sorted(set(re.findall(r"redis\.call\('([A-Z]+)'", "".join(SCRIPTS.values()))) - _TO_UNDO)
)
"""What the scripts call."""
