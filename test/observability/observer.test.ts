import t from 'tap'
import { ChannelNamespaces } from '../../lib/model/channel-rules.ts'
import { Hints } from '../../lib/observability/hints/hints.ts'
import { Logs } from '../../lib/observability/logs.ts'
import { Metrics } from '../../lib/observability/metrics.ts'
import { Observer } from '../../lib/observability/observer.ts'
import { Tracing } from '../../lib/observability/tracing.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { startApp } from '../helpers/app.ts'
import { startTracer } from '../helpers/tracer.ts'
import { until } from '../helpers/until.ts'

function newObserver (): Observer {
  const options = resolveOptions({}, {})
  const logs = new Logs({ log: undefined, cloud: false, close: async () => {} }, options.logging)
  const tracing = new Tracing(new ChannelNamespaces(options.channels), 'memory')
  return new Observer('this', logs, new Metrics(), tracing, new Hints(options, logs, {}))
}

t.test('without an SDK nothing is recorded, so that publish and delivery need not call the observer', async t => {
  const observer = newObserver()
  t.equal(observer.recording, false)
  await observer.bind()
  t.equal(observer.recording, false, 'the API alone records nothing')
  startTracer(t)
  t.equal(observer.recording, false)
  observer.swept(0, 0, 0)
  t.equal(observer.recording, true, 'a provider that was registered later is found by the next sweep')
})

t.test('an observer that was never bound records nothing, whatever the app has registered', async t => {
  startTracer(t)
  const observer = newObserver()
  observer.swept(0, 0, 0)
  t.equal(observer.recording, false)
})

t.test('publications have spans also where the tracer is registered after the app has begun to listen', async t => {
  const { app } = await startApp(t, { heartbeat: { interval: 100, timeout: 100 } })
  const spans = startTracer(t)
  await until(async () => {
    await app.realtime.publish('news', 'hello')
    return spans.ended.some(({ name }) => name === 'send')
  }, 'a span')
})
