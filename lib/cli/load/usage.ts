/** What holds without an option, as it is written on the command line. */
export const DEFAULTS = {
  connections: '100', duration: '1m', channels: '10', channelPrefix: 'load:', subscriptions: '1', publish: '10', size: '128'
} as const

/** Hard limits: one run is bounded in count, rate and time, whatever is asked for. */
export const LIMITS = {
  /** One address has about 28,000 ports for connections to one other, and an instance of Cloud Run 25,000 files. */
  connections: 20_000,
  /** The plugin's default limit is 6,000 upgrades a minute from one address. */
  defaultConnectsPerSecond: 80,
  ramp: 30 * 60_000,
  duration: 60 * 60_000,
  channels: 10_000,
  /** Of one SDK client, as the plugin allows it. */
  subscriptions: 128,
  publish: 20_000,
  /** What is measured takes this many bytes of each publication. */
  minSize: 96,
  /** Together with its envelope it stays below `maxPayload`. */
  size: 60_000,
  minSecret: 32,
  seed: 2 ** 31
} as const

export const USAGE = `Usage: fastify-cloud-run-websocket load --url URL [options]

Connects clients to your own service, lets them publish, and measures what arrives.
Use it only against your own services. It follows no redirects.

  --url URL                 ws://, wss://, http:// or https://; required
  --path PATH               route, if the URL has none
                            (/connection/websocket, or /ws with --protocol plain)
  --protocol sdk|plain      protocol of the clients (sdk)
  --connections N           number of clients, at most ${LIMITS.connections} (${DEFAULTS.connections})
  --ramp DURATION           time in which all clients connect (${LIMITS.defaultConnectsPerSecond} a second)
  --duration DURATION       time of traffic after the ramp, at most 60m (${DEFAULTS.duration})
  --channels N              channels in total (${DEFAULTS.channels})
  --channel-prefix PREFIX   namespace of these channels (${DEFAULTS.channelPrefix})
  --subscriptions N         channels of each client, at most ${LIMITS.subscriptions} (${DEFAULTS.subscriptions})
  --publish RATE            publications a second, all clients together, at most ${LIMITS.publish} (${DEFAULTS.publish})
  --size BYTES              size of a publication, ${LIMITS.minSize} to ${LIMITS.size} (${DEFAULTS.size})
  --token JWT               token of every SDK client
  --token-secret SECRET     signs a token for each SDK client (HS256)
  --token-secret-file FILE  the same, without showing the secret to other users of the machine
  --token-claims JSON       more claims for these tokens, besides sub, iat and exp
  --header 'NAME: VALUE'    header of every upgrade; may be repeated
  --origin ORIGIN           Origin of every upgrade, as a browser sends it (none)
  --max-lost N              lost deliveries that are allowed (0)
  --max-p99 DURATION        99th percentile of latency that is allowed (any)
  --json                    print the report as one line of JSON
  --seed N                  makes the delays before reconnects repeatable

A duration looks like '250ms', '30s' or '5m'. Ctrl-C ends the run early, and prints the report.
Exit code: 0 if all is well; 1 if something was lost, duplicated, out of order or too
late, or if more than 1% of the clients did not connect; 2 for wrong arguments.
`
