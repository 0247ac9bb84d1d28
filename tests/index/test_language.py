"""Languages: cautious, and right where it matters: is this a language the embedder was measured on?"""

from __future__ import annotations

import pytest

from drystone.index.language import language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How long do I have to return an item?", "en"),
        ("Items may be returned within 45 days of delivery.", "en"),
        ("Die Ware kann innerhalb von 45 Tagen nach der Lieferung zurückgegeben werden.", "de"),
        ("Les articles peuvent être retournés dans les 45 jours qui suivent la livraison.", "fr"),
        ("Los artículos se pueden devolver en los 45 días que siguen a la entrega.", "es"),
        ("सामान 45 दिनों के भीतर लौटाया जा सकता है।", "hi"),
        ("商品可在交货后45天内退回。", "zh"),
        ("商品は配達後45日以内に返品できます。", "ja"),
        ("상품은 배송 후 45일 이내에 반품할 수 있습니다.", "ko"),
        ("Товар можно вернуть в течение 45 дней.", "ru"),
        ("يمكن إرجاع المنتجات خلال 45 يومًا.", "ar"),
        ("ניתן להחזיר מוצרים תוך 45 ימים.", "he"),
        ("refund policy", "und"),
        ("| 45 | 12.50 | A-7 |", "und"),
        ("", "und"),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(text) == expected


def test_a_few_foreign_words_do_not_make_english_foreign() -> None:
    assert language("The word Schadenfreude and the phrase c'est la vie are in the dictionary.") == "en"
    assert language("Send 退货 to the office in Shanghai and ask for Mr. 王.") == "en"
    assert language("Order no. 12 to Señor de la Cruz") in ("en", "und")
