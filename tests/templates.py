"""Chat templates that write chats as well-known families of models do."""

from collections.abc import Callable

from kdaudit.models.chat_process import prepare
from kdaudit.models.repeatable import CHAT_DATE
from kdaudit.records import Chat

CHATML = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\n' }}You are kind.{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = CHATML.replace(
    "m.role + '\n' + m.content",
    "m.role + '\n' + ('<think>\n\n</think>\n\n' if loop.last and m.role == 'assistant' else '') "
    "+ m.content.split('</think>')[-1].lstrip('\n')",
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) }}"
    "{{ '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def renderer(template: str) -> Callable[[Chat], tuple[str, str]]:
    """Applies a template as a chat of a checkpoint is rendered, in this process."""
    apply, _ = prepare(
        template=template, special_tokens={"bos_token": "<s>", "eos_token": "</s>"}, today=CHAT_DATE, at_most=10_000
    )

    def render(chat: Chat) -> tuple[str, str]:
        found = apply(chat.messages, chat.n_answer)
        if "texts" not in found:
            raise ValueError(f"fails with {found['error']}")
        before, whole = found["texts"]
        return before, whole

    return render
