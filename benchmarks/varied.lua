-- The load of the varied scenario: no two requests of a connection are alike. 1,000 paths, and a field that is new
-- each time, as behind a proxy that names requests; 20,000 requests, made before the load, come round again.
local requests = {}
local count, turn = 20000, 0

function init(args)
  for number = 1, count do
    wrk.headers["X-Request-Id"] = string.format("%08x-%04x-4000-8000-%012x", number * 2654435761 % 4294967296, number % 65536, number)
    requests[number] = wrk.format("GET", string.format("/items/%d?page=%d", number % 1000, number % 1000))
  end
end

function request()
  turn = turn % count + 1
  return requests[turn]
end
