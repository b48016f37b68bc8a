"""The way of a job. Read the modules in this order; each opens with its place in the story.

1. `accept`    request → queued job
2. `stage`     source URLs → our assets, at once, before they die
3. `submit`    job → prepared → vendor task
4. `poll`      silent task → simulated callback
5. `receive`   any callback → verified, stored once
6. `conclude`  final callback → job is `fetching`, its result rows exist
7. `fetch`     result bytes → fsynced asset → job finished, event, deliveries
8. `deliver`   delivery → attempt
9. `retry`     pure: when, if ever, next
10. `record`   what attempts came to → the store, many at once

Beside the way: `core` is what every step is handed, `worker` the loop that runs one, `crew` says who works on what,
`lane` is one endpoint's queue, `room` how much all lanes may have under way, `breaker` what attempts say about a
receiver, `streams` hands deliveries to clients that come for them, `queued` is where these wait, `presence` ends
endpoints whose clients stay away, `replay` sends once more what an endpoint has missed, `loaded` is what a job is
handed in with, `paid_turn` the moment before a paid call,
`trouble` what happens when a vendor says no to the account, `announce` turns a change into an event and its deliveries,
`shown` gives each noun its one JSON form, `cancel` ends a job early, `again` takes one that failed in once more,
`samples` shows what each event looks like, `signing` is what deliveries are signed with, `target` an endpoint with its
secrets open, `messages` what is sent to it, in its format, `shops` what the destinations of shops are handed besides.
"""
