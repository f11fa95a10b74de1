import t from 'tap'
import { startApp } from '../helpers/app.ts'
import { connect } from '../helpers/ws-client.ts'

t.test('publications of every length arrive whole, also those of one turn together', async (t) => {
  const { app, url } = await startApp(t, {
    async onConnect (connection) {
      await connection.subscribe('news')
      connection.send('ready')
    }
  })
  const client = await connect(t, `${url}/ws`)
  t.equal(await client.next(), 'ready')
  const texts = [0, 1, 125, 126, 65_535, 65_536, 200_000].map(length => 'x'.repeat(length))
  await Promise.all(texts.map(text => app.realtime.publish('news', text)))
  for (const text of texts) t.equal((await client.next()).length, text.length)
  await app.realtime.publish('news', Buffer.alloc(70_000, 7))
  t.strictSame(await client.next(), Buffer.alloc(70_000, 7))
})
