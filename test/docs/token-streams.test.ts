import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { StreamPart } from '../../index.ts'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { Texts } from '../helpers/text-client.ts'
import { until } from '../helpers/until.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

t.test('the server of the page streams an answer', async (t) => {
  const { app } = await importBlock(t, 'docs/token-streams.md', 'server', 'app')
  t.teardown(() => app.close())
  const client = sdkClient(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`, 'json')
  const texts = new Texts()
  const subscription = await client.subscribe('answer:1').subscribed()
  subscription.sub.on('publication', ({ data }) => texts.take(data as StreamPart))
  const { id } = await client.rpc('answer.start', { channel: 'answer:1', question: 'why?' }) as { id: string }
  await until(() => texts.end(id) === 'done', 'the answer')
  t.equal(texts.text(id), 'You asked: why?')
  t.strictSame(await client.rpc('answer.stop', { channel: 'answer:1', id }), {})
})
