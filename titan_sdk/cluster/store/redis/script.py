"""What runs inside Redis: a whole turn's changes as one atomic step that only the holder of the lease can take.

Keys, below the prefix:

    lease, epoch    who may write, and how often that has changed; ``last``: the number and the results of the last commit
    jobs, lines     hashes: rows by id, payload lines of unfinished jobs by number; ``ended``: ids by the time they can go
    history:ID      list; log:ID, logmarks:ID: output that an engine brought, and how much of each run's has arrived
    request:CHANNEL the last request of a client's channel with its result (see ``wire.once``)
    value:KEY, set:KEY, keys, expiry    TitanStore; a set's scores are the order in which members were added
"""

from __future__ import annotations

from titan_sdk.cluster.store.changes import REQUEST_SECONDS

__all__ = ["ACQUIRE", "ALLOW_OOM", "COMMIT", "FORMAT", "KEYS", "MEMBERS", "RELEASE", "RENEW", "VALUE"]

FORMAT = "1"

ALLOW_OOM = "#!lua flags=allow-oom\n"
"""Put before a script, it may write when the server's memory is full; Redis 7 and newer."""

# An expired lease is still its last holder's as long as the epoch is: nobody has written in between.
_CHECK = """
local P, token, epoch, ttl, who = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = redis.call('HGET', P..':lease', 'token')
if holder ~= token then
    local now = redis.call('GET', P..':epoch')
    if not now then return redis.error_reply('TITANLOST emptied') end
    if holder or now ~= epoch then
        return redis.error_reply('TITANLOST '..(redis.call('HGET', P..':lease', 'who') or ''))
    end
    redis.call('HSET', P..':lease', 'token', token, 'who', who, 'ms', ttl)
end
"""

# Whoever waits for a lease sees by the count that it is renewed: the clock that it expires by may be set.
_RENEW = """
redis.call('PEXPIRE', P..':lease', ttl)
redis.call('HINCRBY', P..':lease', 'renewed', 1)
"""

RENEW = _CHECK + _RENEW

# A holder is robbed of a lease that has the count and the holder that the caller has seen for long enough.
ACQUIRE = """
local P = KEYS[1]
local holder = redis.call('HGET', P..':lease', 'who')
if holder then
    local renewed, seconds = redis.call('HGET', P..':lease', 'renewed'), redis.call('HGET', P..':lease', 'ms')
    local seen = seconds and redis.call('HGET', P..':lease', 'token')..' '..(renewed or '0') or ''
    if seen == '' or seen ~= ARGV[5] then
        return {'held', holder, redis.call('PTTL', P..':lease'), seen, seconds or ''}
    end
    redis.call('DEL', P..':lease')
end
local format = redis.call('GET', P..':format')
if format and format ~= ARGV[4] then return {'format', format} end
redis.call('SET', P..':format', ARGV[4])
redis.call('HSET', P..':lease', 'token', ARGV[1], 'who', ARGV[3], 'ms', ARGV[2])
redis.call('PEXPIRE', P..':lease', ARGV[2])
return {'taken', redis.call('INCR', P..':epoch'), redis.call('HGET', P..':last', 'number') or '0'}
"""

RELEASE = """
if redis.call('HGET', KEYS[1]..':lease', 'token') == ARGV[1] then redis.call('DEL', KEYS[1]..':lease') end
"""

# After the check: the commit's number, then the operations, each as the count of its words and its words. A commit that
# is sent again because its reply was lost is answered as before. The first write is one that a full memory refuses: after
# another one, a script is let through to its end.
COMMIT = (
    _CHECK
    + """
local number, last = tonumber(ARGV[5]), tonumber(redis.call('HGET', P..':last', 'number') or '0')
if number == last then return redis.call('HGET', P..':last', 'results') end
if number ~= last + 1 then return redis.error_reply('TITANGAP '..last) end
redis.call('HSET', P..':last', 'begun', number)
"""
    + _RENEW
    + """
-- The master's clock: the server's may be set.
local now = 0

-- What has expired is removed before anything is done to a key.
local function fresh(key)
    local at = redis.call('ZSCORE', P..':expiry', key)
    if not at or tonumber(at) > now then return end
    redis.call('DEL', P..':value:'..key, P..':set:'..key)
    redis.call('ZREM', P..':expiry', key)
    redis.call('ZREM', P..':keys', key)
end

local function exists(key) return redis.call('EXISTS', P..':value:'..key, P..':set:'..key) > 0 end

local function put(key, value)
    redis.call('SET', P..':value:'..key, value)
    if redis.call('ZREM', P..':expiry', key) == 1 then redis.call('PERSIST', P..':set:'..key) end
    redis.call('ZADD', P..':keys', 0, key)
end

local own = {}

own['@put'] = function(key, value)
    fresh(key)
    put(key, value)
end

own['@swap'] = function(key, expects, expected, sets, value)
    fresh(key)
    local found = redis.call('GET', P..':value:'..key)
    if (expects == '1' and found ~= expected) or (expects == '0' and found) then return 0 end
    if sets == '1' then put(key, value) return 1 end
    redis.call('DEL', P..':value:'..key)
    if not exists(key) then redis.call('ZREM', P..':keys', key) end
    return 1
end

own['@add'] = function(key, member)
    fresh(key)
    local set = P..':set:'..key
    if redis.call('ZSCORE', set, member) then return 0 end
    redis.call('ZADD', set, redis.call('INCR', P..':added'), member)
    redis.call('ZADD', P..':keys', 0, key)
    return 1
end

own['@remove'] = function(key, member)
    fresh(key)
    local there = redis.call('ZREM', P..':set:'..key, member)
    if not exists(key) then redis.call('ZREM', P..':keys', key) end
    return there
end

own['@delete'] = function(key)
    fresh(key)
    local there = redis.call('DEL', P..':value:'..key, P..':set:'..key)
    redis.call('ZREM', P..':keys', key)
    redis.call('ZREM', P..':expiry', key)
    return there > 0 and 1 or 0
end

own['@expire'] = function(key, ms)
    fresh(key)
    if not exists(key) then return 0 end
    redis.call('ZADD', P..':expiry', string.format('%.0f', now + tonumber(ms)), key)
    return 1
end

-- Whether the request is not new, and then its result.
local function recall(channel, number, mark)
    local found = redis.call('GET', P..':request:'..channel)
    if not found then return false end
    local last = cjson.decode(found)
    if last[1] < tonumber(number) then return false end
    if last[1] == tonumber(number) and last[2] == mark then return true, last[3] end
    return true, 'OUT_OF_DATE'
end

local function remember(channel, number, mark, result)
    redis.call('SET', P..':request:'..channel, cjson.encode({tonumber(number), mark, result}), 'PX', KEPT_MS)
end

own['@once'] = function(channel, number, mark, act, ...)
    local known, result = recall(channel, number, mark)
    if known then return result end
    result = own[act](...) or 0
    remember(channel, number, mark, result)
    return result
end

own['@begin'] = function(channel, number, mark)
    local known, result = recall(channel, number, mark)
    if not known then remember(channel, number, mark, '') end
    return known and result
end

own['@remember'] = function(channel, number, mark, reply)
    local known, result = recall(channel, number, mark)
    if result ~= 'OUT_OF_DATE' then remember(channel, number, mark, reply) end
end

own['@sweep'] = function()
    local count = 0
    local due = redis.call('ZRANGEBYSCORE', P..':expiry', '-inf', string.format('%.0f', now), 'LIMIT', 0, 5000)
    for _, key in ipairs(due) do
        fresh(key)
        count = count + 1
    end
    return count
end

local function append(id, data, cap)
    local room = tonumber(cap) + 1 - redis.call('STRLEN', P..':log:'..id)
    if room > 0 then redis.call('APPEND', P..':log:'..id, string.sub(data, 1, room)) end
end

own['@note'] = function(id, line, cap) append(id, line, cap) end

own['@log'] = function(id, run, offset, data, cap)
    local done = tonumber(redis.call('HGET', P..':logmarks:'..id, run) or '0')
    if tonumber(offset) > done then return done end
    data = string.sub(data, done - tonumber(offset) + 1)
    if #data == 0 then return done end
    append(id, data, cap)
    redis.call('HSET', P..':logmarks:'..id, run, string.format('%.0f', done + #data))
    return done + #data
end

local results, at = {}, 6
while at <= #ARGV do
    local count = tonumber(ARGV[at])
    local act = own[ARGV[at + 1]]
    if ARGV[at + 1] == '@now' then
        now = tonumber(ARGV[at + 2])
    elseif act then
        results[#results + 1] = act(unpack(ARGV, at + 2, at + count)) or 0
    else
        redis.call(unpack(ARGV, at + 1, at + count))
    end
    at = at + count + 1
end
local encoded = cjson.encode(results)
redis.call('HSET', P..':last', 'number', number, 'results', encoded)
return encoded
"""
).replace("KEPT_MS", str(int(REQUEST_SECONDS * 1000)))

# What has expired is there until the next sweep, and is read by nobody.
_EXPIRED = """
local function expired(key, now)
    local at = redis.call('ZSCORE', KEYS[1]..':expiry', key)
    return at and tonumber(at) <= tonumber(now)
end
"""

VALUE = (
    _EXPIRED
    + """
if expired(ARGV[1], ARGV[2]) then return false end
return redis.call('GET', KEYS[1]..':value:'..ARGV[1])
"""
)

MEMBERS = (
    _EXPIRED
    + """
if expired(ARGV[1], ARGV[2]) then return {} end
return redis.call('ZRANGE', KEYS[1]..':set:'..ARGV[1], 0, -1)
"""
)

KEYS = (
    _EXPIRED
    + """
local P, from, limit, found = KEYS[1], ARGV[1], tonumber(ARGV[3]), {}
while true do
    local page = redis.call('ZRANGEBYLEX', P..':keys', from, ARGV[2], 'LIMIT', 0, 500)
    for _, key in ipairs(page) do
        if #found == limit then return found end
        if not expired(key, ARGV[4]) and redis.call('EXISTS', P..':value:'..key, P..':set:'..key) > 0 then
            found[#found + 1] = key
        end
    end
    if #page < 500 then return found end
    from = '('..page[#page]
end
"""
)
