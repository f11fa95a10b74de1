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

Connects clients to a service of your own, lets them publish, and measures what arrives.
Aim it at nothing that is not yours. Redirects are not followed.

  --url URL                 ws://, wss://, http:// or https://; required
  --path PATH               route, where the URL has none
                            (/connection/websocket, or /ws with --protocol plain)
  --protocol sdk|plain      what the clients speak (sdk)
  --connections N           clients, at most ${LIMITS.connections} (${DEFAULTS.connections})
  --ramp DURATION           time over which they connect (${LIMITS.defaultConnectsPerSecond} a second)
  --duration DURATION       time of traffic after the ramp, at most 60m (${DEFAULTS.duration})
  --channels N              channels of all clients together (${DEFAULTS.channels})
  --channel-prefix PREFIX   namespace of these channels (${DEFAULTS.channelPrefix})
  --subscriptions N         channels of each client, at most ${LIMITS.subscriptions} (${DEFAULTS.subscriptions})
  --publish RATE            publications a second, of all clients together, at most ${LIMITS.publish} (${DEFAULTS.publish})
  --size BYTES              bytes of a publication, ${LIMITS.minSize} to ${LIMITS.size} (${DEFAULTS.size})
  --token JWT               token of every SDK client
  --token-secret SECRET     signs a token for each SDK client (HS256)
  --token-secret-file FILE  the same; others on the machine cannot read the secret
  --token-claims JSON       claims of these tokens besides sub, iat and exp
  --header 'NAME: VALUE'    header of every upgrade; may be repeated
  --origin ORIGIN           Origin of every upgrade, as a browser sends it (none)
  --max-lost N              lost deliveries that are no failure (0)
  --max-p99 DURATION        longest 99th percentile of latency that is no failure (any)
  --json                    the report as one line of JSON
  --seed N                  makes the delays before reconnecting the same again

A duration is '250ms', '30s' or '5m'. Ctrl-C ends the run early, with its report.
Exit code: 0 if all is well, 1 if something was lost, came twice, in the wrong order or
too late, or if more than 1 % of the clients did not connect; 2 for wrong arguments.
`
