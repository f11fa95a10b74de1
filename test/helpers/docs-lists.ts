import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { blocksOf } from './docs.ts'
import { readPage, root, userPages } from './markdown.ts'

/** Lists that are made from the pages: `npm run docs` writes them, a test compares them. */
interface List {
  file: string
  /** How the list begins. It ends with the file, or before this. */
  begins: string
  ends?: string
  text: string
}

export function lists (): List[] {
  return [
    { file: 'llms.txt', begins: '## Start\n', text: pagesForModels() },
    { file: 'CONTRIBUTING.md', begins: '| page | blocks checked ', ends: '\n## ', text: pagesWithCode() }
  ]
}

/** The file as it should be. */
export function withList ({ file, begins, ends, text }: List): string {
  const now = readFileSync(join(root, file), 'utf8')
  const start = now.indexOf(begins)
  if (start < 0) throw new Error(`${file} has no ${begins}`)
  return now.slice(0, start) + text + (ends === undefined ? '' : now.slice(now.indexOf(ends, start)))
}

/** The sections of docs/README.md, with links from the root. */
function pagesForModels (): string {
  const text = readFileSync(join(root, 'docs/README.md'), 'utf8')
  return text.slice(text.indexOf('## ')).replace(/\]\(/g, '](docs/')
}

/** A table of the pages that have js or ts blocks, with the tests that run some of them. */
function pagesWithCode (): string {
  const tests = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.test.ts')).toSorted()
  const runs = tests.flatMap(test => blocksOf(readFileSync(join(root, 'test', test), 'utf8')).map(block => ({ test, block })))
  const rows = userPages().map((page) => {
    const { blocks } = readPage(page)
    const checked = blocks.filter(({ language }) => language === 'js' || language === 'ts').length
    const names = blocks.filter(({ name }) => runs.some(({ block }) => block === `${page} ${name}`)).map(({ name }) => `\`${name}\``)
    const by = tests.filter(test => runs.some(run => run.test === test && run.block.startsWith(`${page} `))).map(test => `\`${test}\``)
    return { page, checked, names, by }
  })
  return [
    '| page | blocks checked | blocks run | by |',
    '|---|---:|---|---|',
    ...rows.filter(({ checked }) => checked > 0).map(({ page, checked, names, by }) => `| ${page} | ${checked} | ${names.join(' ')} | ${by.join(' ')} |`)
  ].join('\n') + '\n'
}
