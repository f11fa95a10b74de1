import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cellsOf, docsPages, readPage, root, userPages } from '../helpers/markdown.ts'

const LONGEST_README = 12_288
const LONGEST_LINE = 120
const LONGEST_CELL = 25

const pages = ['README.md', ...docsPages()]

/** What a reader sees of a line: links without their targets, and no text of pictures. */
function shown (text: string): string {
  return text.replace(/!\[[^\]]*\]\([^)]*\)/g, '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
}

/** Inline code counts as one word. */
function words (cell: string): number {
  return shown(cell).replace(/`[^`]*`/g, 'code').split(/\s+/).filter(word => /[\p{L}\p{N}]/u.test(word)).length
}

const isTable = (text: string) => text.trimStart().startsWith('|')

t.test('the README is short', async (t) => {
  t.ok(statSync(join(root, 'README.md')).size <= LONGEST_README)
})

t.test('lines of prose have at most 120 characters', async (t) => {
  const long = pages.flatMap(page => readPage(page).lines
    .filter(({ text }) => !isTable(text) && shown(text).length > LONGEST_LINE)
    .map(({ number, text }) => `${page}:${number} has ${shown(text).length}`))
  t.strictSame(long, [])
})

t.test('cells of tables have at most 25 words', async (t) => {
  const long = pages.flatMap(page => readPage(page).lines.filter(({ text }) => isTable(text))
    .flatMap(({ number, text }) => cellsOf(text).filter(cell => words(cell) > LONGEST_CELL).map(cell => `${page}:${number} ${words(cell)} words: ${cell}`)))
  t.strictSame(long, [])
})

t.test('every npm script that a page names is one of ours', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const shells = [...userPages(), 'CONTRIBUTING.md'].flatMap(page => readPage(page).blocks).filter(({ language }) => ['sh', 'bash', ''].includes(language))
  const unknown = shells.flatMap(({ page, line, code }) => Array.from(code.matchAll(/\bnpm (?:run ([\w:-]+)|(start|test)\b)/g))
    .map(([command, run, short]) => ({ name: run ?? short!, from: `${page}:${line} ${command}` })))
    .filter(({ name }) => !(name in scripts))
  t.strictSame(unknown.map(({ from }) => from), [])
})
