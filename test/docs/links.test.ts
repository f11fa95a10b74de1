import { existsSync } from 'node:fs'
import { join, posix } from 'node:path'
import t from 'tap'
import { allPages, anchors, docsPages, linksOf, readPage, root } from '../helpers/markdown.ts'

/** Each relative link of a page as `page:line link`, with the file and the anchor it leads to. */
function links (page: string) {
  return readPage(page).lines.flatMap(({ number, text }) => linksOf(text).map((link) => {
    const [path = '', anchor] = link.split('#')
    const file = path === '' ? page : posix.join(posix.dirname(page), decodeURI(path))
    return { from: `${page}:${number} ${link}`, file, anchor }
  }))
}

t.test('every relative link leads to a file, and every anchor to a heading', async (t) => {
  const leadsNowhere = allPages().flatMap(links).filter(({ file, anchor }) => {
    if (!existsSync(join(root, file))) return true
    return anchor !== undefined && file.endsWith('.md') && !anchors(file).includes(anchor)
  })
  t.strictSame(leadsNowhere.map(({ from }) => from), [])
})

t.test('docs/README.md lists every page of docs/', async (t) => {
  const listed = links('docs/README.md').map(({ file }) => file)
  t.strictSame(docsPages().filter(page => page !== 'docs/README.md' && !listed.includes(page)), [])
})
