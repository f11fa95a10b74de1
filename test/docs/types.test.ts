import t from 'tap'
import { typeErrors } from '../helpers/docs-types.ts'
import { userPages } from '../helpers/markdown.ts'

t.test('every js and ts block of the docs is right for a strict TypeScript', async (t) => {
  t.strictSame(typeErrors(userPages()), [])
})
