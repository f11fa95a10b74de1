import { setTimeout as wait } from 'node:timers/promises'

/** ms between two tokens. */
const PACE = Number(process.env.TOKEN_PACE ?? 30)

/**
 * Stands in for a language model. It continues after `text`, as a model does that gets it as the beginning of its
 * answer. Yours calls an API here, with `signal`, and yields what arrives.
 */
export async function * model (question, text, signal) {
  const answer = `You asked: “${question}”\n\n${ANSWER}`
  for (const token of answer.slice(text.length).match(/\s*\S{1,4}|\s+$/gu) ?? []) {
    await wait(PACE, undefined, { signal })
    yield token
  }
}

const ANSWER = `I am a stand-in for a language model, so I say the same to everybody. That is enough to show how an answer travels. 🚀

1. My words are sent as they come, several times a second: those of fifty milliseconds make one publication.
2. Open this page in a second tab. It gets the text so far in one piece, and then continues like this one.
3. Turn the network off and on again. What you missed comes in one piece, too, and nothing comes twice.
4. Run two instances on one Redis, and stop the one that writes. The other one continues where I stopped.
5. Press Stop, in whichever tab. The instance that writes gets to know, whichever it is.

Each part says where in the text it belongs, so the page needs only one line of code to put them together. 🧩 The length counts UTF-16 code units, as strings in JavaScript do, and no part ever ends in the middle of an emoji. 👩‍🚀

Now and then a part has the whole text. So the history in Redis stays small, however long the answer is, and a page that opens late finds all of it there. The last part has the whole text as well, so the page's copy is right even if the page has missed something.

Ask me something else, and I will say this again.`
