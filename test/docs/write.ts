// `npm run docs`: writes llms.txt and the list of pages in CONTRIBUTING.md.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { lists, withList } from '../helpers/docs-lists.ts'
import { root } from '../helpers/markdown.ts'

for (const list of lists()) writeFileSync(join(root, list.file), withList(list))
