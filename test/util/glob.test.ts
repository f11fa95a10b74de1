import t from 'tap'
import { compileGlob } from '../../lib/util/glob.ts'

const cases: Array<[pattern: string, matching: string[], other: string[]]> = [
  ['', [''], ['a']],
  ['*', ['', 'a', 'chat:1', 'a/b.c'], []],
  ['chat:*', ['chat:', 'chat:1', 'chat:a:b'], ['chat', 'a chat:1', 'news']],
  ['*:1', ['chat:1', ':1'], ['chat:11', '1']],
  ['a*b*c', ['abc', 'aXbYc', 'abbcc'], ['ab', 'acb']],
  ['a**c', ['ac', 'abc'], ['ab']],
  ['user:?', ['user:1', 'user:é', 'user:😀'], ['user:', 'user:12']],
  ['[abc]x', ['ax', 'cx'], ['dx', 'x']],
  ['[a-c1]x', ['bx', '1x'], ['dx', '-x']],
  ['[!a-c]x', ['dx', '-x'], ['ax', 'x']],
  ['[-a]', ['-', 'a'], ['b']],
  ['{chat,news}:*', ['chat:1', 'news:'], ['sport:1']],
  ['{a,b{c,d}}', ['a', 'bc', 'bd'], ['b', 'c']],
  ['x{,y}', ['x', 'xy'], ['xz']],
  ['\\*\\{a\\}', ['*{a}'], ['x{a}']],
  ['[{]a', ['{a'], ['a']],
  ['{\\,,b}', [',', 'b'], ['\\']]
]

t.test('patterns match whole names', async (t) => {
  for (const [pattern, matching, other] of cases) {
    const match = compileGlob(pattern)
    for (const name of matching) t.equal(match?.(name), true, `${pattern} matches ${name}`)
    for (const name of other) t.equal(match?.(name), false, `${pattern} does not match ${name}`)
  }
})

t.test('a pattern that is wrong, or has too many alternatives, is none', async (t) => {
  for (const pattern of ['[a', '{a', 'a}', '{a,{b}', 'a\\', '{a,b}'.repeat(7), '{x{a,[}}']) t.equal(compileGlob(pattern), undefined, pattern)
})

t.test('no pattern takes long', async (t) => {
  t.equal(compileGlob(`${'*a'.repeat(100)}b`)?.('a'.repeat(255)), false)
})
