import t from 'tap'
import { typeErrors } from '../helpers/docs-types.ts'
import { readPage, userPages } from '../helpers/markdown.ts'

t.test('every js and ts block of the docs is right for a strict TypeScript', async (t) => {
  t.strictSame(typeErrors(userPages()), [])
})

t.test('no block escapes that by another name of its language', async (t) => {
  const blocks = userPages().flatMap(page => readPage(page).blocks)
  const others = blocks.filter(({ language }) => /^(?:javascript|typescript|[cm]?[jt]sx?)$/i.test(language) && !/^[jt]s$/.test(language))
  t.strictSame(others.map(({ page, line, language }) => `${page}:${line} ${language}`), [])
})
