import type { AddressInfo } from 'node:net'
import t from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { sdkClient } from '../helpers/sdk.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

t.test('the server of the page sends a client the trades that it asks for', async (t) => {
  const { app, trade } = await importBlock(t, 'docs/tags-filter.md', 'tags-filter-server')
  t.teardown(() => app.close())
  const client = sdkClient(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`, 'json')
  const tagsFilter = {
    op: 'and' as const,
    nodes: [{ key: 'ticker', cmp: 'in' as const, vals: ['GOOG', 'MSFT'] }, { key: 'price', cmp: 'gte' as const, val: '99.5' }]
  }
  const market = await client.subscribe('market:nyse', { tagsFilter }).subscribed()
  for (const [ticker, price] of [['GOOG', 99], ['AAPL', 120], ['GOOG', 99.5], ['MSFT', 1_000]]) await trade(ticker, price)
  await market.arrived(2)
  t.strictSame(market.data, [{ ticker: 'GOOG', price: 99.5 }, { ticker: 'MSFT', price: 1_000 }])
})
