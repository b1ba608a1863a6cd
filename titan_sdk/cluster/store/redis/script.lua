-- The actions of a store, each one atomic step: KEYS[1] is the prefix, ARGV[1] the action.
--
-- Keys, below the prefix:
--     format, identity  the data's format; the cluster's id, the same for each of its masters
--     lease, epoch      the master that may write, and the number of its changes
--     last              number and results of the last commit; the highest job number; the commits that the server has lost
--     active, jobs      rows by id: of unsettled jobs, and of settled ones
--     lines             payload lines of the active ones, by number;   ended: ids of the others by the time of their end
--     history:ID        list;   log:ID, logmarks:ID: output from an engine, and the size of each run's output in it
--     request:CHANNEL   the last request of a client's channel with its result (see wire/exactly_once.py)
--     value:KEY, set:KEY, keys, expiry    TitanStore; a set's scores are the order in which members were added

local P, action = KEYS[1], ARGV[1]
local call = redis.call

local function at(name) return P..':'..name end

-- The master's clock, in milliseconds, because the server's clock may be set.
local now = 0

local function expired(key)
    local due = call('ZSCORE', at('expiry'), key)
    return due and tonumber(due) <= now
end

---------------------------------------------------------------------- reading

local read = {}

-- An expired key stays until the next sweep, but no read returns it.
function read.value(key)
    if expired(key) then return false end
    return call('GET', at('value:')..key)
end

function read.members(key)
    if expired(key) then return {} end
    return call('ZRANGE', at('set:')..key, 0, -1)
end

function read.keys(from, to, limit)
    local found = {}
    limit = tonumber(limit)
    while true do
        local page = call('ZRANGEBYLEX', at('keys'), from, to, 'LIMIT', 0, 500)
        for _, key in ipairs(page) do
            if #found == limit then return found end
            if not expired(key) and call('EXISTS', at('value:')..key, at('set:')..key) > 0 then
                found[#found + 1] = key
            end
        end
        if #page < 500 then return found end
        from = '('..page[#page]
    end
end

if read[action] then
    now = tonumber(ARGV[2])
    return read[action](unpack(ARGV, 3))
end

---------------------------------------------------------------------- the lease

if action == 'acquire' then
    local token, ms, who, wanted, older, seen, accept = unpack(ARGV, 2)
    local holder = call('HMGET', at('lease'), 'token', 'who', 'renewed', 'ms')
    if holder[1] and holder[1] ~= token then
        -- The lease is taken over if its count and token have not changed for as long as the caller has watched it.
        local found = holder[1]..' '..(holder[3] or '0')
        if found ~= seen then return {'held', holder[2], found, holder[4]} end
        call('DEL', at('lease'))
    end
    local format = call('GET', at('format')) or wanted
    -- A conversion to this format was interrupted, and is repeated.
    local upgrade = format == older or format == older..' to '..wanted
    if format ~= wanted and not upgrade then return {'format', format} end
    local lost = call('HGET', at('last'), 'lost')
    if lost and accept ~= '1' then return {'lost', lost} end
    call('HDEL', at('last'), 'lost')
    call('SET', at('format'), upgrade and older..' to '..wanted or wanted)
    -- If the request is repeated after a lost reply, the epoch stays.
    local epoch = holder[1] == token and call('GET', at('epoch')) or call('INCR', at('epoch'))
    call('HSET', at('lease'), 'token', token, 'who', who, 'ms', ms)
    call('PEXPIRE', at('lease'), ms)
    local last = call('HMGET', at('last'), 'number', 'newest')
    return {'taken', epoch, last[1] or '0', last[2] or '0', upgrade and 'upgrade' or ''}
end

if action == 'release' then
    if call('HGET', at('lease'), 'token') == ARGV[2] then call('DEL', at('lease')) end
    return
end

-- While the epoch is unchanged, an expired lease still belongs to its last holder: no other master has written since.
local token, epoch, ms, who = unpack(ARGV, 2, 5)
local holder = call('HGET', at('lease'), 'token')
if holder ~= token then
    local current = call('GET', at('epoch'))
    if not current then return redis.error_reply('TITANLOST emptied') end
    if holder or current ~= epoch then
        return redis.error_reply('TITANLOST '..(call('HGET', at('lease'), 'who') or ''))
    end
end

-- A waiting master detects renewals by the count, because the clock of the expiry may be set.
local function renew()
    if holder ~= token then call('HSET', at('lease'), 'token', token, 'who', who, 'ms', ms) end
    call('PEXPIRE', at('lease'), ms)
    call('HINCRBY', at('lease'), 'renewed', 1)
end

if action == 'renew' then return renew() end

---------------------------------------------------------------------- a commit

-- A commit that is sent again because its reply was lost is answered as before.
local number = tonumber(ARGV[6])
local last = tonumber(call('HGET', at('last'), 'number') or '0')
if number == last then return call('HGET', at('last'), 'results') end
if number ~= last + 1 then
    -- The server has lost acknowledged commits. That is stored for the next master.
    local lost = string.format('%.0f to %.0f', last + 1, number - 1)
    call('HSET', at('last'), 'lost', lost)
    return redis.error_reply('TITANGAP '..lost)
end
-- The first write must be one that a full memory refuses: after any other write, Redis lets the script run to its end.
call('HSET', at('last'), 'begun', number)
renew()
now = tonumber(ARGV[7])

-- An expired key is removed before a change of it.
local function fresh(key)
    if not expired(key) then return end
    call('DEL', at('value:')..key, at('set:')..key)
    call('ZREM', at('expiry'), key)
    call('ZREM', at('keys'), key)
end

local function exists(key) return call('EXISTS', at('value:')..key, at('set:')..key) > 0 end

local own = {}

---- jobs

local function drop_of(id) call('DEL', at('log:')..id, at('logmarks:')..id) end

function own.new(id, seq, row, line, entry, kept)
    local ended, added = call('HDEL', at('jobs'), id), call('HSET', at('active'), id, row)
    if ended == 1 or added == 0 then
        call('ZREM', at('ended'), id)
        call('LTRIM', at('history:')..id, -tonumber(kept), -1)
        drop_of(id)
    end
    call('HSET', at('lines'), seq, line)
    call('RPUSH', at('history:')..id, entry)
end

function own.active(id, row) call('HSET', at('active'), id, row) end

function own.settled(id, seq, row, ended_at)
    call('HDEL', at('active'), id)
    call('HDEL', at('lines'), seq)
    call('HSET', at('jobs'), id, row)
    call('ZADD', at('ended'), ended_at, id)
end

-- A service may be restarted for ever, so its history is bounded.
function own.history(id, ...)
    if call('RPUSH', at('history:')..id, ...) > 1000 then call('LTRIM', at('history:')..id, -500, -1) end
end

function own.newest(seq) call('HSET', at('last'), 'newest', seq) end

function own.forget(id, seq)
    for _, name in ipairs({'jobs', 'active'}) do
        local row = call('HGET', at(name), id)
        -- Unless the id has been submitted again meanwhile.
        if row and cjson.decode(row)[1] == tonumber(seq) then
            call('HDEL', at(name), id)
            call('HDEL', at('lines'), seq)
            call('ZREM', at('ended'), id)
            call('DEL', at('history:')..id)
            drop_of(id)
        end
    end
end

---- values and sets; each of these has a result

local function put(key, value)
    call('SET', at('value:')..key, value)
    call('ZREM', at('expiry'), key)
    call('ZADD', at('keys'), 0, key)
end

function own.put(key, value)
    fresh(key)
    put(key, value)
    return 0
end

function own.swap(key, expects, expected, sets, value)
    fresh(key)
    local found = call('GET', at('value:')..key)
    if (expects == '1' and found ~= expected) or (expects == '0' and found) then return 0 end
    if sets == '1' then put(key, value) return 1 end
    call('DEL', at('value:')..key)
    if not exists(key) then call('ZREM', at('keys'), key) end
    return 1
end

function own.add(key, member)
    fresh(key)
    local set = at('set:')..key
    if call('ZSCORE', set, member) then return 0 end
    call('ZADD', set, call('INCR', at('added')), member)
    call('ZADD', at('keys'), 0, key)
    return 1
end

function own.remove(key, member)
    fresh(key)
    local there = call('ZREM', at('set:')..key, member)
    if not exists(key) then call('ZREM', at('keys'), key) end
    return there
end

function own.delete(key)
    fresh(key)
    local there = call('DEL', at('value:')..key, at('set:')..key)
    call('ZREM', at('keys'), key)
    call('ZREM', at('expiry'), key)
    return there > 0 and 1 or 0
end

function own.expire(key, after)
    fresh(key)
    if not exists(key) then return 0 end
    call('ZADD', at('expiry'), string.format('%.0f', now + tonumber(after)), key)
    return 1
end

function own.sweep()
    local due = call('ZRANGEBYSCORE', at('expiry'), '-inf', string.format('%.0f', now), 'LIMIT', 0, 5000)
    for _, key in ipairs(due) do fresh(key) end
    return #due
end

---- requests that may arrive twice (ONCE)

-- Whether the request is known, and its result.
local function recall(channel, number, mark)
    local found = call('GET', at('request:')..channel)
    if not found then return false end
    local known = cjson.decode(found)
    if known[1] < tonumber(number) then return false end
    if known[1] == tonumber(number) and known[2] == mark then return true, known[3] end
    return true, 'OUT_OF_DATE'
end

local function remember(channel, number, mark, kept_ms, result)
    call('SET', at('request:')..channel, cjson.encode({tonumber(number), mark, result}), 'PX', kept_ms)
end

function own.once(channel, number, mark, kept_ms, act, ...)
    local known, result = recall(channel, number, mark)
    if known then return result end
    result = own[act](...)
    remember(channel, number, mark, kept_ms, result)
    return result
end

function own.begin(channel, number, mark, kept_ms)
    local known, result = recall(channel, number, mark)
    if known then return result end
    remember(channel, number, mark, kept_ms, '')
    return 0
end

function own.remember(channel, number, mark, kept_ms, reply)
    local known, result = recall(channel, number, mark)
    if result ~= 'OUT_OF_DATE' then remember(channel, number, mark, kept_ms, reply) end
    return 0
end

---- logs

local function append(id, data, cap)
    local room = tonumber(cap) + 1 - call('STRLEN', at('log:')..id)
    if room > 0 then call('APPEND', at('log:')..id, string.sub(data, 1, room)) end
end

function own.note(id, line, cap)
    append(id, line, cap)
    return 0
end

function own.log(id, run, offset, data, cap)
    local done = tonumber(call('HGET', at('logmarks:')..id, run) or '0')
    if tonumber(offset) > done then return done end
    data = string.sub(data, done - tonumber(offset) + 1)
    if #data == 0 then return done end
    append(id, data, cap)
    call('HSET', at('logmarks:')..id, run, string.format('%.0f', done + #data))
    return done + #data
end

-- Each operation is the number of its arguments, and the arguments.
local results, place = {}, 8
while place <= #ARGV do
    local count = tonumber(ARGV[place])
    results[#results + 1] = own[ARGV[place + 1]](unpack(ARGV, place + 2, place + count))
    place = place + count + 1
end
local encoded = cjson.encode(results)
call('HSET', at('last'), 'number', number, 'results', encoded)
return encoded
