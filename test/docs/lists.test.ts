import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { lists, withList } from '../helpers/docs-lists.ts'
import { root } from '../helpers/markdown.ts'

t.test('llms.txt and the list of pages in CONTRIBUTING.md are those of the docs', async (t) => {
  for (const list of lists()) t.equal(readFileSync(join(root, list.file), 'utf8'), withList(list), `${list.file}: npm run docs writes it`)
})
