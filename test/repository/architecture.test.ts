import { readFileSync } from 'node:fs'
import t from 'tap'
import { barrels, circles, doors, ENTRIES, FLOORS, functionLengths, importGraph, readSources, wrongWays } from '../helpers/architecture.ts'

const MAX_FILE_LINES = 280
const MAX_FUNCTION_LINES = 60

/** The files of each room that other rooms may import. The entries may import all. */
const DOORS: Record<string, string[]> = {
  model: [
    'arguments.ts', 'broker.ts', 'channel-rules.ts', 'client-error.ts', 'client-json.ts', 'close-codes.ts', 'connection.ts',
    'encoder.ts', 'error-replies.ts', 'errors.ts', 'occupancy.ts', 'presence.ts', 'publication.ts', 'realtime-types.ts',
    'redis-credentials.ts', 'schema.ts', 'sessions.ts', 'shared-memory.ts', 'spelling.ts', 'stream-part.ts',
    'tags-filter.ts', 'unsubscribe-codes.ts'
  ],
  util: [
    'deadlines.ts', 'glob.ts', 'is-iterable.ts', 'nesting.ts', 'recent-texts.ts', 'shared-calls.ts', 'task-queue.ts', 'thrown.ts',
    'timeout.ts', 'token-bucket.ts', 'token-buckets.ts', 'turns.ts', 'wake.ts'
  ],
  hub: ['hub.ts', 'recovery.ts', 'subscriber.ts', 'subscription.ts'],
  options: [
    'api-checks.ts', 'checks.ts', 'connect-details.ts', 'fallback-checks.ts', 'identity.ts', 'inspect-options.ts', 'method-checks.ts', 'options.ts',
    'publish-change.ts', 'publisher-options.ts', 'redis-address.ts', 'redis-source.ts', 'resolve.ts', 'schema-checks.ts',
    'subscribe-grant.ts', 'token-options.ts'
  ],
  google: [
    'client-address.ts', 'cloud-logging.ts', 'credentials.ts', 'log-entry.ts', 'logging-api.ts', 'platform.ts', 'resource.ts',
    'trace-context.ts'
  ],
  backends: ['backend.ts', 'redis/rate-limit-store.ts'],
  observability: ['metrics.ts', 'observer.ts', 'publisher-observer.ts', 'tracing.ts'],
  core: [
    'check-user.ts', 'client-publish.ts', 'client-socket.ts', 'client-subscribe.ts', 'connection.ts', 'connections.ts', 'control.ts', 'core.ts',
    'instance-registry.ts', 'listeners.ts', 'mail.ts', 'methods.ts', 'occupancy.ts', 'permissions.ts', 'protocol.ts', 'publisher.ts',
    'session.ts', 'streams.ts', 'subscriptions.ts', 'survey.ts'
  ],
  lifecycle: ['availability.ts'],
  protocols: ['centrifugal/context.ts', 'centrifugal/protobuf-codec.ts', 'centrifugal/protocol.ts', 'centrifugal/streams.ts']
}

const sources = readSources()
const graph = importGraph(sources)

t.test('imports lead down: never up, never to a neighbour on the same floor', async (t) => {
  t.strictSame(wrongWays(graph), [])
})

t.test('there is no circle of imports, not even of types', async (t) => {
  t.strictSame(circles(graph), [])
})

t.test('a room is entered by its doors', async (t) => {
  t.strictSame(doors(graph), DOORS)
})

t.test('CONTRIBUTING shows the same rooms on the same floors', async (t) => {
  const [contributing = ''] = readFileSync(new URL('../../CONTRIBUTING.md', import.meta.url), 'utf8').split('\n## Where')
  const rows = Array.from(contributing.matchAll(/^\| (\d) \| `(\w+)` \|/gm), ([, floor, room]) => [Number(floor), room])
  t.strictSame(rows, FLOORS.flatMap((rooms, i) => rooms.map(room => [FLOORS.length - i, room])))
})

t.test('the entries are imported by nobody, and no other file only hands on what others export', async (t) => {
  t.strictSame(Array.from(graph).filter(([, imports]) => imports.some(imported => ENTRIES.includes(imported))), [])
  t.strictSame(barrels(sources), [])
})

t.test('files and functions fit a screen or two', async (t) => {
  const longFiles = Array.from(sources, ([file, text]) => [file, text.trimEnd().split('\n').length] as const)
  t.strictSame(longFiles.filter(([, lines]) => lines > MAX_FILE_LINES), [])
  t.strictSame(Array.from(functionLengths(sources)).filter(([, lines]) => lines > MAX_FUNCTION_LINES), [])
})

t.test('the checks themselves find what is wrong', async (t) => {
  const graphOf = (files: Record<string, string>) => importGraph(new Map(Object.entries(files)))
  const up = graphOf({
    'lib/model/a.ts': "import type { B } from '../core/b.ts'",
    'lib/hub/c.ts': "export const c = async () => await import('../options/d.ts')",
    'lib/core/e.ts': "export type F = import('../http/f.ts').F",
    'lib/g.ts': ''
  })
  t.strictSame(wrongWays(up), [
    'lib/model/a.ts imports lib/core/b.ts',
    'lib/hub/c.ts imports lib/options/d.ts',
    'lib/core/e.ts imports lib/http/f.ts',
    'lib/g.ts is in no room'
  ])
  const circle = graphOf({
    'lib/hub/a.ts': "import type { B } from './b.ts'",
    'lib/hub/b.ts': "export { c } from './c.ts'\nconst own = 1",
    'lib/hub/c.ts': "import { a } from './a.ts'"
  })
  t.strictSame(circles(circle), ['lib/hub/a.ts > lib/hub/b.ts > lib/hub/c.ts > lib/hub/a.ts'])
  t.strictSame(barrels(new Map([['lib/hub/a.ts', "export * from './b.ts'"], ['lib/hub/b.ts', 'export const b = 1']])), ['lib/hub/a.ts'])
  t.strictSame(doors(graphOf({ 'lib/core/a.ts': "import '../hub/b.ts'", 'index.ts': "import './lib/hub/c.ts'" })), { hub: ['b.ts'] })
  t.strictSame(Array.from(functionLengths(new Map([['a.ts', 'function f () {\n\n}\nconst g = () => 1']]))), [['a.ts:f', 3], ['a.ts:line 4', 1]])
})
