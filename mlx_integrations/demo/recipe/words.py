"""Word lists for the demo model's training text, and the rule that keeps some words for evaluation.

A word is *held out* when its CRC-32 says so. The rule covers listed and invented words alike, so the two splits share
no content word by construction, without a second list to maintain.
"""

from __future__ import annotations

import zlib
from typing import Final, Literal

Split = Literal["train", "held_out"]

_HELD_OUT_ONE_IN: Final = 6

FIRST_NAMES: Final = (
    "Ada Adam Aisha Alba Alma Amir Ana Anton Astrid Bela Ben Bruno Carla Carlos Celia Clara Dana Daniel Dario David "
    "Dora Edith Elena Eli Elsa Emil Emma Enzo Erik Esther Eva Farah Felix Fiona Frida Gina Grace Greta Hana Hannah "
    "Hassan Hector Helen Hugo Ida Igor Ines Iris Ivan Jack Jana Jane Jasper John Jonas Julia Kai Karin Kofi Lara Laura "
    "Lea Leo Lina Lucas Lucy Maria Marco Marta Max Maya Mia Mila Mina Mira Nadia Nina Noah Nora Olga Oliver Omar Oscar "
    "Otto Paula Pedro Petra Pia Priya Rafael Rosa Ruth Sam Sara Sofia Stefan Tara Theo Tom Uma Vera Victor Viola Wanda "
    "Wei Yara Yuki Zara Zoë José Chloé Jürgen Søren Łukasz Ángela Björn Noël Renée Íñigo Žofia Ayşe Şule Håkon Dvořák"
).split()

CITIES: Final = (
    "Paris Oslo London Berlin Madrid Rome Vienna Prague Lisbon Dublin Athens Warsaw Cairo Tokyo Kyoto Osaka Seoul "
    "Mumbai Delhi Lagos Nairobi Accra Tunis Dakar Lima Quito Bogota Havana Boston Chicago Denver Seattle Dallas Austin "
    "Houston Miami Toronto Montreal Sydney Perth Auckland Munich Hamburg Cologne Leipzig Geneva Basel Milan Turin "
    "Naples Venice Porto Seville Valencia Bilbao Ghent Bruges Utrecht Leiden Malmö Göteborg Zürich Kraków Łódź Århus "
    "Tromsø Reykjavík Bogotá Córdoba Málaga Düsseldorf Köln Nîmes Québec İzmir Helsinki Tallinn Riga Vilnius Sofia "
    "Budapest Zagreb Split Ankara Beirut Amman Doha Muscat Karachi Dhaka Hanoi Manila Jakarta Bali Singapore Bristol "
    "Leeds York Bath Oxford Cork Galway Glasgow Bergen Aarhus Odense Turku Tampere"
).split() + [
    "New York", "San Francisco", "Los Angeles", "San Diego", "Mexico City", "Cape Town", "Hong Kong", "São Paulo",
    "Buenos Aires", "Rio de Janeiro", "Kuala Lumpur", "New Delhi", "Saint Louis", "Den Haag", "Las Palmas",
    "San José",
]  # fmt: skip

REGIONS: Final = "CA NY TX WA MA France Norway Spain Italy Japan Germany Kenya Peru Canada India Texas Ohio".split()

NOUNS: Final = (
    "notebook pencil pen eraser ruler marker stapler folder envelope stamp lamp chair desk table sofa shelf mirror "
    "carpet curtain pillow blanket towel basket bucket broom ladder hammer wrench drill saw nail screw bolt rope "
    "chain candle clock watch radio camera printer keyboard mouse monitor laptop tablet phone charger cable battery "
    "speaker guitar violin piano drum flute trumpet harp book map globe atlas magazine poster ticket umbrella jacket "
    "coat scarf glove hat boot shoe sandal shirt sweater sock belt wallet suitcase backpack tent lantern compass kettle "
    "teapot cup mug plate bowl spoon fork knife pan oven fridge toaster blender bottle jar barrel crate box parcel "
    "bicycle helmet wheel engine tractor boat canoe kayak paddle sail anchor bridge tower gate fence well fountain "
    "garden statue bench bakery museum library theatre station harbour market school clinic stadium chapel castle "
    "lighthouse mill barn cabin kitchen office cellar attic workshop studio gallery archive forest meadow river lake "
    "island valley mountain glacier desert cave beach apple pear plum cherry grape lemon melon peach banana carrot "
    "potato tomato onion pepper bean pumpkin mushroom bread cheese butter honey sugar salt flour rice pasta soup cake "
    "pie biscuit chocolate coffee tea juice cat dog horse cow sheep goat pig hen duck goose rabbit fox wolf bear deer "
    "otter badger hedgehog squirrel owl eagle robin sparrow heron swan frog turtle lizard salmon trout whale dolphin "
    "seal crab bee spider planet comet rocket satellite telescope microscope magnet robot drone sensor server printer "
    "invoice contract report letter diary poem song painting photo recipe puzzle kite balloon doll marble coin medal "
    "trophy flag badge key lock door window roof chimney stove"
).split()

ADJECTIVES: Final = (
    "red blue green yellow black white grey brown purple orange pink silver golden big small large tiny long short "
    "tall wide narrow old new young ancient modern heavy light soft hard smooth rough round square flat sharp quiet "
    "loud fast slow warm cold dry wet clean dusty bright dark fresh sweet sour wooden metal plastic glass paper leather "
    "northern southern eastern western early late spare folding portable electric digital plain striped broken "
    "famous hidden lucky royal wild gentle"
).split()

COLOURS: Final = (
    "red blue green yellow black white grey brown purple orange pink silver gold teal crimson violet indigo turquoise "
    "beige maroon navy olive coral amber lilac ivory magenta cyan mint scarlet"
).split()

FOODS: Final = (
    "pizza pasta risotto lasagne sushi ramen curry paella tacos falafel hummus couscous goulash dumplings pancakes "
    "waffles noodles lentils porridge gnocchi quiche omelette salad soup stew burritos kimchi pierogi moussaka tiramisu "
    "crêpes jalapeños café smørrebrød açaí phở"
).split()

ANIMALS: Final = (
    "cat dog horse rabbit parrot hamster goat otter fox owl penguin tiger lion panda koala whale dolphin turtle hedgehog "
    "squirrel eagle swan frog bear wolf zebra giraffe camel llama donkey"
).split()

JOBS: Final = (
    "baker teacher nurse doctor pilot farmer painter carpenter engineer lawyer librarian gardener plumber electrician "
    "chef waiter tailor potter writer poet actor singer dancer drummer pianist chemist biologist geologist astronomer "
    "architect accountant journalist translator photographer mechanic sailor judge dentist surgeon programmer"
).split()

HOBBIES: Final = (
    "chess tennis hiking sailing painting knitting cycling fishing swimming running climbing skiing gardening cooking "
    "reading singing dancing pottery photography archery fencing rowing surfing judo yoga birdwatching origami juggling"
).split()

TOPICS: Final = (
    "gravity photosynthesis volcanoes dinosaurs democracy inflation algebra geometry chemistry biology astronomy history "
    "football cricket opera jazz ballet poetry philosophy religion economics politics medicine vaccines genetics bitcoin "
    "lasers magnets earthquakes tides weather clouds deserts pyramids castles vikings samurai pirates robots satellites "
    "planets galaxies atoms electrons enzymes bacteria viruses engines bridges airplanes trains submarines recursion "
    "databases compilers networks encryption love happiness sleep dreams music art"
).split()

COUNTRIES: Final = (
    "France Norway Spain Italy Japan Germany Kenya Peru Canada India China Brazil Egypt Greece Turkey Poland Sweden "
    "Denmark Finland Iceland Ireland Portugal Austria Hungary Croatia Morocco Ghana Nigeria Chile Bolivia Cuba Mexico "
    "Vietnam Thailand Nepal Mongolia Australia"
).split()

UNITS: Final = (
    "km miles meters feet inches cm mm yards kg pounds grams ounces tons liters gallons pints cups ml celsius fahrenheit "
    "kelvin hours minutes seconds days weeks joules calories watts horsepower knots acres hectares lb oz m g l °C °F km/h mph"
).split()

CURRENCIES: Final = "EUR USD GBP JPY CHF euros dollars pounds yen francs kroner pesos rupees NOK SEK".split()

LANGUAGES: Final = (
    "French German Spanish Italian Norwegian Japanese Chinese Polish Turkish Greek Dutch Danish Hindi".split()
)

MONTHS: Final = ("January February March April May June July August September October November December").split()

WEATHERS: Final = "sunny rainy cloudy windy foggy snowy stormy clear overcast misty".split()

MAIL_HOSTS: Final = "example.com example.org mail.example shop.example test.example team.example".split()

CJK: Final = (
    "東京大阪京都名古屋神戸横浜札幌福岡北海道山川田中村木林森石水火土金月日星空海花春夏秋冬風雨雪光心愛夢学校生先"
    "你好世界集团公司有限科技北上广深圳市天津重庆成都南西安武汉客户张王李赵刘陈杨黄周吴"
)
KANA: Final = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろアイ"
    "ウエオカキクケコサシスセソタチツテトナマミラリルン"
)
HANGUL: Final = "서울부산인천대구광주한국김이박최정강조윤장임고객주식회사나라사랑하늘바다별꽃"
CYRILLIC: Final = "абвгдежзиклмнопрстуфхцчшыьэюя"
GREEK: Final = "αβγδεζηθικλμνξοπρστυφχψω"
ARABIC: Final = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
DEVANAGARI: Final = "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह"
ACCENTS: Final = "éèêëáàâäãåíìîïóòôöõøúùûüñçßæœčšžřěůłśźżęąğşıăđ"
EMOJI: Final = (
    "😀😁😂😃😄😅😆😇😉😊😋😌😍😎😐😔😘😜😢😭😱🙂🙃🙏👋👍👏💪💡💥💯🎁🎂🎈🎉🎨🎵🎸🏆🏠🏡🐈🐍🐕🐘🐙🐟🐢🐧🐱🐶🐼👑💎🔑🔥🔔🌍🌈🌊🌙🌞🌟🌲🌵🌷🌸🌹🍀🍇🍋🍎🍒🍓"
    "🍕🍪🍰🍵🚀🚂🚗🚲🚢⏰☀⚡⛄❤✅✨☕★☂♥"
)
SCRIPTS: Final = (CJK, CJK, CJK, KANA, HANGUL, CYRILLIC, GREEK, ARABIC, DEVANAGARI, EMOJI, "abcdefghijklmnopqrstuvwxyz")
NAME_SCRIPTS: Final = (CJK, CJK, KANA, HANGUL, CYRILLIC, GREEK)
# First and last code point of ranges any character of which may come: ideographs, Hangul, kana, emoji, Cyrillic, Hebrew, Thai.
RANGES: Final = (
    (0x4E00, 0x9FA5), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x3041, 0x30FF), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F),
    (0x0410, 0x0450), (0x05D0, 0x05EB), (0x0E01, 0x0E31),
)  # fmt: skip


def is_held_out(word: str) -> bool:
    """Says whether `word` is kept for evaluation.

    Args:
        word: Any content word, listed or invented; case does not matter.

    Returns:
        True when training text must not contain it.
    """
    return zlib.crc32(word.lower().encode()) % _HELD_OUT_ONE_IN == 0


def in_split(word: str, split: Split) -> bool:
    """Says whether `word` may be drawn for `split`."""
    return is_held_out(word) == (split == "held_out")
