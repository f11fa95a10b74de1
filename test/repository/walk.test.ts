import t from 'tap'
import { walkOfMessage } from '../helpers/walk.ts'

const MAX_FUNCTIONS = 20
const MAX_FILES = 12

t.test('a plain message passes few functions in few files on its way from socket to socket', async (t) => {
  const walk = await walkOfMessage(t)
  const files = new Set(walk.map(step => step.split(':')[0]))
  t.comment(`${walk.length} named functions in ${files.size} files:\n${walk.join('\n')}`)
  t.ok(walk.length <= MAX_FUNCTIONS, `${walk.length} named functions`)
  t.ok(files.size <= MAX_FILES, `${files.size} files`)
})
